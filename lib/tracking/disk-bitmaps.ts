import { TidemarkError } from "../model/errors.js";
import type { BitmapNames } from "./bitmap-names.js";
import { newTargetIdOf, targetIdOf } from "./target-id.js";
import type { NativeTrackedDevice } from "./binding.js";
import type { TargetStart, TargetStatus } from "./target-status.js";

/** A bitmap of a consumer outside Tidemark. */
export interface BitmapStatus {
  readonly name: string;
  readonly targetId: string;
  /** What the next backup would hold; blocks that changed twice may count twice. */
  readonly changedBytes: number;
  /** Of these, what is taken for changed because nobody knows. */
  readonly suspectBytes: number;
}

/** What a TrackedDisk is to its bitmaps. */
interface BitmapHolder {
  readonly path: string;
  readonly native: NativeTrackedDevice;
  readonly sizeBytes: number;
  readonly granularityBytes: number;
  targets(): TargetStatus[];
  addTarget(name: string, start: TargetStart): Promise<void>;
  removeTarget(name: string): Promise<void>;
}

/** The bitmaps of one disk that were made for consumers outside Tidemark. */
export class DiskBitmaps {
  readonly #disk: BitmapHolder;
  readonly #names: BitmapNames;

  constructor(disk: BitmapHolder, names: BitmapNames) {
    this.#disk = disk;
    this.#names = names;
  }

  async add(name: string, start: TargetStart): Promise<void> {
    if (this.#hasTarget(newTargetIdOf(name))) {
      throw new TidemarkError(
        "ALREADY_EXISTS",
        `Cannot add bitmap ${name} to disk ${this.#disk.path}: because it has one of that name.`,
        { hint: "Go on with it, or remove it first." },
      );
    }
    await this.#names.add(name);
    await this.#disk.addTarget(name, start);
  }

  async remove(name: string): Promise<void> {
    this.require(name);
    await this.#disk.removeTarget(name);
    await this.#names.remove(name);
  }

  list(): BitmapStatus[] {
    const { native, sizeBytes, granularityBytes } = this.#disk;
    const liveBytes = native.liveBlocks() * granularityBytes;
    return this.#disk.targets().flatMap(({ targetId, pendingBytes, suspectBytes }) => {
      const name = this.#names.nameOf(targetId);
      const changedBytes = Math.min(pendingBytes + suspectBytes + liveBytes, sizeBytes);
      return name === null ? [] : [{ name, targetId, changedBytes, suspectBytes }];
    });
  }

  /** A UUID may be that of a relationship's target, which only replication moves on. */
  require(name: string): void {
    const id = targetIdOf(name);
    const { path } = this.#disk;
    if (!this.#hasTarget(id)) {
      throw new TidemarkError("NOT_FOUND", `Cannot find bitmap ${name} on disk ${path}.`, {
        hint: "Add it: from then on changes count for it.",
      });
    }
    const isMadeFromName = id !== name.toLowerCase();
    if (isMadeFromName || this.#names.nameOf(id) !== null) return;
    throw new TidemarkError(
      "NOT_FOUND",
      `Cannot find bitmap ${name} on disk ${path}: because that target was not made by addBitmap().`,
    );
  }

  #hasTarget(id: string): boolean {
    return this.#disk.native.targets().some((target) => target.id === id);
  }
}
