/** Time as the engine sees it; simulations bring their own. */
export interface Clock {
  /** Wall clock, for people and for recovery points' times. */
  nowMs(): number;
  /** Never goes back; for intervals. */
  monotonicMs(): number;
  /** Rejects with the signal's reason when aborted. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}
