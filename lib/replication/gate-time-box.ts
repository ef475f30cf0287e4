import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { CheckpointOptions, TargetChanges } from "../model/vm-tracker.js";
import type { CheckpointTurn } from "./checkpoint-turn.js";

/** The gate did not open in time: nothing was cut, the cycle is missed. */
export class CheckpointMissed extends Error {
  override readonly name = "CheckpointMissed";
}

/** How long a checkpoint may hold the guest's writes: doubled after a miss, up to a maximum. */
export class GateTimeBox {
  readonly #baseMs: number;
  readonly #maxMs: number;
  readonly #turn: CheckpointTurn;
  #limitMs: number;

  constructor(baseMs: number, maxMs: number, turn: CheckpointTurn) {
    this.#turn = turn;
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

  /** Takes a cut by `take` within the box. */
  async take(
    take: (options: CheckpointOptions) => Promise<TargetChanges>,
    options: CheckpointOptions,
  ): Promise<TargetChanges> {
    const limitMs = this.#limitMs;
    try {
      return await this.#turn.run(() => take({ ...options, drainLimitMs: limitMs }));
    } catch (thrown) {
      const error: TidemarkError = toTidemarkError(thrown);
      if (error.code !== "TIMED_OUT") throw error;
      this.#limitMs = Math.min(limitMs * 2, this.#maxMs);
      throw new CheckpointMissed(`the disks' writes did not end within ${limitMs} ms`, {
        cause: error,
      });
    }
  }
}
