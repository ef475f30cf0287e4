import { isWithinWeekly, type LocalTime, type WeeklyWindow } from "./local-time.js";

export interface ThrottleWindow extends WeeklyWindow {
  /** Null: no limit. */
  readonly bytesPerSecond: number | null;
}

/** How fast segments may travel, counted on the wire. */
export interface Throttle {
  /** Outside of the windows; null: no limit. */
  readonly bytesPerSecond: number | null;
  /** The first that is open decides. */
  readonly windows: readonly ThrottleWindow[];
}

/** Null: no limit. */
export function rateAt(throttle: Throttle | null, local: LocalTime): number | null {
  if (throttle === null) return null;
  const open = throttle.windows.find((window) => isWithinWeekly(window, local));
  return open === undefined ? throttle.bytesPerSecond : open.bytesPerSecond;
}
