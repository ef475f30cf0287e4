import { BlockHeat } from "./block-heat.js";
import { KnownContent } from "./known-content.js";
import { targetIdOf } from "./target-id.js";

/** What is kept of a disk's targets beside their maps: nothing that a checkpoint needs. */
export class TargetNotes {
  readonly #bitmapPath: string;
  readonly #diskId: string;
  readonly #heats = new Map<string, BlockHeat>();
  readonly #known = new Map<string, KnownContent>();

  constructor(bitmapPath: string, diskId: string) {
    this.#bitmapPath = bitmapPath;
    this.#diskId = diskId;
  }

  heatOf(target: string): BlockHeat {
    const id = targetIdOf(target);
    const heat = this.#heats.get(id) ?? new BlockHeat();
    this.#heats.set(id, heat);
    return heat;
  }

  knownContentOf(target: string): KnownContent {
    const id = targetIdOf(target);
    const path = `${this.#bitmapPath}.${id}.known`;
    const known = this.#known.get(id) ?? new KnownContent(path, this.#diskId);
    this.#known.set(id, known);
    return known;
  }

  async forget(target: string): Promise<void> {
    this.#heats.delete(targetIdOf(target));
    await this.knownContentOf(target).forget();
  }

  async close(): Promise<void> {
    for (const known of this.#known.values()) await known.close();
  }
}
