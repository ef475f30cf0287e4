import type { Clock } from "../model/clock.js";
import { ERROR_CODES, type ErrorCode, TidemarkError, toTidemarkError } from "../model/errors.js";

interface RetryPorts {
  readonly random: () => number;
  readonly limits: { readonly retryBaseMs: number; readonly retryMaxMs: number };
}

/** How long to wait after the n-th failure in a row: exponential, with jitter. */
export function backOffMs({ random, limits }: RetryPorts, failures: number): number {
  const { retryBaseMs, retryMaxMs } = limits;
  const ceilingMs = Math.min(retryMaxMs, retryBaseMs * 2 ** Math.min(failures - 1, 20));
  return ceilingMs * (0.5 + random() / 2);
}

/** Waits before the try after the n-th failure in a row. */
export async function backOff(
  ports: RetryPorts & { readonly clock: Clock },
  failures: number,
  signal: AbortSignal,
): Promise<void> {
  await ports.clock.sleep(backOffMs(ports, failures), signal);
}

/** Say something about one delta only: another attempt, or another delta, may do better. */
const OF_ONE_DELTA: readonly ErrorCode[] = ["NOT_FOUND", "CONFLICT", "CORRUPT", "TRUNCATED"];

/** An error of putSegment or commit, retryable where only this delta is concerned. */
export function asDeltaError(thrown: unknown): TidemarkError {
  const error = toTidemarkError(thrown);
  if (error.retryable || !OF_ONE_DELTA.includes(error.code)) return error;
  const options = { cause: error, retryable: true };
  return error.hint === undefined
    ? new TidemarkError(error.code, error.message, options)
    : new TidemarkError(error.code, error.message, { ...options, hint: error.hint });
}

/** The peer or the line is the trouble, not what was asked. */
export function isOutage(error: TidemarkError): boolean {
  return error.retryable && ERROR_CODES[error.code].retryable;
}

/** The replica decided: asking the same again changes nothing. */
export function isRefusal(error: TidemarkError): boolean {
  return !isOutage(error) || error.code === "STAGING_LOST";
}
