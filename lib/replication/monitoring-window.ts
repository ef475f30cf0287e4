export interface MonitoringSettings {
  /** Of one monitoring interval; 1 h to 7 days. */
  readonly intervalMs: number;
  /** Minutes after midnight, local time, at which one begins. */
  readonly startMinutes: number;
}

export const DEFAULT_MONITORING: MonitoringSettings = {
  intervalMs: 12 * 3_600_000,
  startMinutes: 9 * 60,
};

const MINUTE_MS = 60_000;

/**
 * When the monitoring interval began that an instant is in. Intervals are counted on the
 * wall clock: one that a change to or from daylight saving time is in is longer or shorter.
 */
export function windowBeginMs(
  nowMs: number,
  { intervalMs, startMinutes }: MonitoringSettings,
  offsetMinutesAt: (timeMs: number) => number = localOffsetMinutes,
): number {
  const wallMs = nowMs + offsetMinutesAt(nowMs) * MINUTE_MS;
  const startMs = startMinutes * MINUTE_MS;
  const beginWallMs = startMs + Math.floor((wallMs - startMs) / intervalMs) * intervalMs;
  const guessMs = beginWallMs - offsetMinutesAt(nowMs) * MINUTE_MS;
  return beginWallMs - offsetMinutesAt(guessMs) * MINUTE_MS;
}

/** East of Greenwich is positive. */
function localOffsetMinutes(timeMs: number): number {
  return -new Date(timeMs).getTimezoneOffset();
}
