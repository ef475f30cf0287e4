import { rm } from "node:fs/promises";
import { binding, type NativeCapture } from "./binding.js";
import type { NativeKnownContent } from "./capture-binding.js";

/**
 * What a target's newest point holds of one disk, as far as it is known: hashes in a file
 * beside the bitmap, so that blocks which are rewritten with the same content need not travel
 * (docs/formats/known-content.md).
 *
 * Nothing depends on it but what travels, so nothing here fails: what cannot be kept is
 * forgotten.
 */
export class KnownContent {
  readonly #path: string;
  readonly #diskId: string;
  #native: NativeKnownContent | null = null;
  /** A former process may have left one. */
  #mayExist = true;
  /** What is there must go before anything is believed again. */
  #isForgotten = false;

  constructor(path: string, diskId: string) {
    this.#path = path;
    this.#diskId = diskId;
  }

  /**
   * Before the capture is read: what is known of the point is left out when it is, in any
   * thread. What is known of another point is forgotten.
   */
  async begin(capture: NativeCapture, pointId: string | null): Promise<void> {
    if (this.#isForgotten || pointId === null) await this.forget();
    if (this.#isForgotten) return;
    try {
      capture.filterBy(await this.#of(capture, pointId));
    } catch {
      await this.forget();
    }
  }

  /** The target holds the capture as this point. */
  async settle(pointId: string): Promise<void> {
    try {
      await this.#native?.settle(pointId);
    } catch {
      await this.forget();
    }
  }

  /** The target does not hold the capture; what it held is as well known as before. */
  drop(): void {
    this.#native?.drop();
  }

  async forget(): Promise<void> {
    await this.close();
    if (!this.#mayExist) return;
    this.#isForgotten = true;
    try {
      await rm(this.#path, { force: true });
      this.#mayExist = false;
      this.#isForgotten = false;
    } catch {
      // Tried again before it is used again.
    }
  }

  async close(): Promise<void> {
    const native = this.#native;
    this.#native = null;
    await native?.close().catch(() => {});
  }

  async #of(capture: NativeCapture, pointId: string | null): Promise<NativeKnownContent> {
    const known = await this.#opened(capture);
    if (known.pointId === pointId || known.pointId === null) return known;
    await this.forget();
    return this.#opened(capture);
  }

  async #opened(capture: NativeCapture): Promise<NativeKnownContent> {
    const { diskSizeBytes, granularityBytes } = capture;
    this.#mayExist = true;
    this.#native ??= await binding.openKnownContent(
      this.#path,
      this.#diskId,
      diskSizeBytes,
      granularityBytes,
    );
    return this.#native;
  }
}
