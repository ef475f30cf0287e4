import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { PauseHistogram } from "../model/pause-histogram.js";
import type { TargetChanges } from "../model/vm-tracker.js";
import type { CheckpointTurn } from "./checkpoint-turn.js";

/** The writes under way did not end in time: nothing was cut, the cycle is missed. */
export class CheckpointMissed extends Error {
  override readonly name = "CheckpointMissed";
  /** For about so long the gates were closed all the same. */
  readonly pauseNs: number;

  constructor(limitMs: number, cause: TidemarkError) {
    super(`the disks' writes did not end within ${limitMs} ms`, { cause });
    this.pauseNs = limitMs * 1e6;
  }
}

/**
 * How long a checkpoint may hold the guest's writes: doubled after a miss, up to a maximum.
 * Each pause is recorded, those of missed checkpoints too.
 */
export class GateTimeBox {
  readonly #baseMs: number;
  readonly #maxMs: number;
  readonly #turn: CheckpointTurn;
  readonly #pauses: PauseHistogram;
  #limitMs: number;

  constructor(baseMs: number, maxMs: number, turn: CheckpointTurn, pauses: PauseHistogram) {
    this.#turn = turn;
    this.#pauses = pauses;
    this.#baseMs = baseMs;
    this.#maxMs = Math.max(baseMs, maxMs);
    this.#limitMs = baseMs;
  }

  get limitMs(): number {
    return this.#limitMs;
  }

  get hasGrown(): boolean {
    return this.#limitMs > this.#baseMs;
  }

  get isAtMaximum(): boolean {
    return this.#limitMs === this.#maxMs;
  }

  /** What it was in the beginning: whoever made it grow takes part no more. */
  reset(): void {
    this.#limitMs = this.#baseMs;
  }

  /** Takes a cut, of one VM or of several, by `take` within the box. */
  async take<T extends TargetChanges | readonly TargetChanges[]>(
    take: (drainLimitMs: number) => Promise<T>,
  ): Promise<T> {
    const limitMs = this.#limitMs;
    try {
      const taken = await this.#turn.run(() => take(limitMs));
      const [first] = [taken].flat() as readonly TargetChanges[];
      if (first !== undefined) this.#pauses.record(first.cut.pauseNs);
      return taken;
    } catch (thrown) {
      const error: TidemarkError = toTidemarkError(thrown);
      if (error.code !== "TIMED_OUT") throw error;
      this.#limitMs = Math.min(limitMs * 2, this.#maxMs);
      const missed = new CheckpointMissed(limitMs, error);
      this.#pauses.record(missed.pauseNs);
      throw missed;
    }
  }
}
