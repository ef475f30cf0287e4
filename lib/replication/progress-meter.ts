import type { Clock } from "../model/clock.js";
import type { InitialProgress } from "../model/relationship.js";

const SPAN_MS = 30_000;
const SAMPLE_EVERY_MS = 500;

interface Sample {
  readonly atMs: number;
  readonly sentBytes: number;
}

/** How fast the first copy goes, and how long it will take at that. */
export class ProgressMeter {
  readonly #clock: Clock;
  #samples: Sample[] = [];
  #sentBytes = 0;
  #totalBytes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  note(sentBytes: number, totalBytes: number): void {
    const atMs = this.#clock.monotonicMs();
    const last = this.#samples.at(-1);
    // What was given back has to be sent again: the rate begins anew.
    if (sentBytes < this.#sentBytes) this.#samples = [];
    if (this.#samples.length === 0 || atMs - (last?.atMs ?? 0) >= SAMPLE_EVERY_MS) {
      this.#samples.push({ atMs, sentBytes });
    }
    this.#sentBytes = sentBytes;
    this.#totalBytes = totalBytes;
  }

  /** Null: nothing was noted yet. */
  progress(): InitialProgress | null {
    if (this.#samples.length === 0) return null;
    const [sentBytes, totalBytes] = [this.#sentBytes, this.#totalBytes];
    const bytesPerSecond = this.#rate();
    const remainingMs =
      bytesPerSecond === null || bytesPerSecond === 0
        ? null
        : (Math.max(0, totalBytes - sentBytes) / bytesPerSecond) * 1000;
    return { sentBytes, totalBytes, bytesPerSecond, remainingMs };
  }

  #rate(): number | null {
    const nowMs = this.#clock.monotonicMs();
    const recent = this.#samples.filter(({ atMs }) => nowMs - atMs <= SPAN_MS);
    this.#samples = recent.length === 0 ? this.#samples.slice(-1) : recent;
    const [first] = this.#samples;
    const spanMs = nowMs - (first?.atMs ?? nowMs);
    if (first === undefined || spanMs <= 0) return null;
    return ((this.#sentBytes - first.sentBytes) / spanMs) * 1000;
  }
}
