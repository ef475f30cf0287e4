/** Which compression suits the data, the line and the processor, found out while sending. */

/** 0: not compressed. Each costs about twice what the one before does. */
export const ADAPTIVE_LEVELS = [0, 1, 3, 6, 9, 12, 15] as const;

export interface SegmentMeasure {
  readonly level: number;
  readonly contentBytes: number;
  readonly wireBytes: number;
  readonly compressMs: number;
  readonly lineMs: number;
}

/** Above it, compressing is a waste of time. */
const INCOMPRESSIBLE_RATIO = 0.95;
/** Above it the line is waited for, below it the processor. A step moves the share to between them. */
const LINE_BOUND_SHARE = 0.75;
const PROCESSOR_BOUND_SHARE = 0.35;
/** What a change between compressing and not has to gain. */
const WORTHWHILE = 0.9;
/** While nothing is compressed, one of so many segments is, to see whether it would pay; more rarely while it does not. */
const PROBE_EVERY_LEAST = 16;
const PROBE_EVERY_MOST = 128;
/** A judgement needs so many segments, or the end of a cycle. */
const ENOUGH_SEGMENTS = 16;
const ENOUGH_BYTES = 1 << 20;

export class AdaptiveCompression {
  #index: number = 1;
  #untilProbe = PROBE_EVERY_LEAST;
  #probeEvery = PROBE_EVERY_LEAST;
  #measures: SegmentMeasure[] = [];

  /** The next segment's. */
  nextLevel(): number {
    const level = ADAPTIVE_LEVELS[this.#index] ?? 1;
    if (level !== 0) return level;
    this.#untilProbe -= 1;
    if (this.#untilProbe > 0) return 0;
    this.#untilProbe = this.#probeEvery;
    return 1;
  }

  note(measure: SegmentMeasure): void {
    this.#measures.push(measure);
    if (this.#measures.length >= ENOUGH_SEGMENTS) this.#judge();
  }

  /** A cycle begins: what the last one has shown counts. */
  beginCycle(): void {
    const contentBytes = this.#measures.reduce((sum, { contentBytes }) => sum + contentBytes, 0);
    if (contentBytes >= ENOUGH_BYTES) this.#judge();
  }

  #judge(): void {
    const present = ADAPTIVE_LEVELS[this.#index] ?? 1;
    const own = sum(this.#measures.filter(({ level }) => level === present));
    const probes = sum(this.#measures.filter(({ level }) => level !== present));
    this.#measures = [];
    if (own.contentBytes === 0) return;
    this.#index = present === 0 ? chooseFromOff(own, probes) : this.#chooseFromLevel(own);
    if (this.#index > 0) this.#probeEvery = PROBE_EVERY_LEAST;
    else if (probes.contentBytes > 0) {
      this.#probeEvery = Math.min(2 * this.#probeEvery, PROBE_EVERY_MOST);
    }
  }

  #chooseFromLevel(own: SegmentMeasure): number {
    const ratio = own.wireBytes / own.contentBytes;
    if (ratio > INCOMPRESSIBLE_RATIO) return 0;
    const share = own.lineMs / Math.max(own.lineMs + own.compressMs, 1e-9);
    if (share > LINE_BOUND_SHARE) return Math.min(this.#index + 1, ADAPTIVE_LEVELS.length - 1);
    if (share >= PROCESSOR_BOUND_SHARE) return this.#index;
    if (this.#index > 1) return this.#index - 1;
    const timeMs = own.lineMs + own.compressMs;
    return own.lineMs / ratio < WORTHWHILE * timeMs ? 0 : 1;
  }
}

/** Whether a compressed segment would take less time than one that is not. */
function chooseFromOff(off: SegmentMeasure, probes: SegmentMeasure): number {
  if (probes.contentBytes === 0) return 0;
  const ratio = probes.wireBytes / probes.contentBytes;
  if (ratio > INCOMPRESSIBLE_RATIO) return 0;
  const lineMs = off.lineMs / off.contentBytes;
  const compressMs = probes.compressMs / probes.contentBytes;
  return lineMs * ratio + compressMs < WORTHWHILE * lineMs ? 1 : 0;
}

function sum(measures: readonly SegmentMeasure[]): SegmentMeasure {
  const total = { level: 0, contentBytes: 0, wireBytes: 0, compressMs: 0, lineMs: 0 };
  for (const each of measures) {
    total.contentBytes += each.contentBytes;
    total.wireBytes += each.wireBytes;
    total.compressMs += each.compressMs;
    total.lineMs += each.lineMs;
  }
  return total;
}
