/**
 * Finds out that a bitmap's file was replaced by an older copy of itself: right in every
 * checksum and identity, and without the marks that came after it was copied. What tells
 * is a number in the file that only rises, and that is kept here as well. It rises while
 * something is written, so that a copy is found out that is older than the last look.
 */
import { toTidemarkError } from "../model/errors.js";
import type { StateStore } from "../model/state-store.js";
import type { TrackedDisk } from "../tracking/tracked-disk.js";

const MAP_PREFIX = "maps/";
const LOOK_MS = 10_000;

export class MapSequences {
  readonly #store: StateStore;
  readonly #onNotice: (message: string) => void;

  constructor(store: StateStore, onNotice: (message: string) => void) {
    this.#store = store;
    this.#onNotice = onNotice;
  }

  /** Before a disk that was opened is served. */
  async check(disk: TrackedDisk): Promise<void> {
    const document = await this.#store.get(MAP_PREFIX + disk.diskId);
    const { sequence } = (document?.value ?? { sequence: 0 }) as { sequence: number };
    if (disk.mapSequence < sequence && disk.targets().length > 0) {
      await disk.suspectAll("older copy of the bitmap");
      this.#onNotice(
        `The bitmap ${disk.bitmapPath} is an older copy of itself: all of disk ${disk.path} is compared with its replica.`,
      );
    }
    await this.#advance(disk, sequence);
  }

  /** Of a disk that is not this host's any more: its bitmap may come back as another file. */
  async forget(diskId: string): Promise<void> {
    await this.#store.delete(MAP_PREFIX + diskId);
  }

  /** Until disposed, which comes before the disks' close. */
  watch(disks: readonly TrackedDisk[], intervalMs: number = LOOK_MS): AsyncDisposable {
    let looking: Promise<void> = Promise.resolve();
    const look = async () => {
      for (const disk of disks) {
        // Where no region is marked nothing was written for a while.
        if (disk.durability().markedRegions > 0) await this.#advance(disk, 0);
      }
    };
    const timer = setInterval(() => {
      looking = looking.then(look).catch((thrown: unknown) => {
        this.#onNotice(`Cannot note a bitmap's age: ${toTidemarkError(thrown).message}`);
      });
    }, intervalMs).unref();
    return {
      [Symbol.asyncDispose]: async () => {
        clearInterval(timer);
        await looking;
      },
    };
  }

  /** The file first: what is kept is never ahead of it. */
  async #advance(disk: TrackedDisk, known: number): Promise<void> {
    // Above what its former self had: other copies of that must be older as well.
    const sequence = await disk.advanceMapSequence(known);
    await this.#store.put(MAP_PREFIX + disk.diskId, { sequence });
  }
}
