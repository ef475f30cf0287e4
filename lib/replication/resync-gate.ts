/** Whether what is suspect may be compared with the replica now. */
import { isWithinDaily, nextOpeningMs, type ToLocalTime } from "../model/local-time.js";
import type { RelationshipRecord } from "../model/relationship.js";

type Decision = Pick<RelationshipRecord, "settings" | "isResyncOrdered">;

export function mayResynchronize(
  { settings: { resync }, isResyncOrdered }: Decision,
  nowMs: number,
  toLocal: ToLocalTime,
): boolean {
  if (resync.mode === "automatic" || isResyncOrdered) return true;
  return resync.mode === "window" && isWithinDaily(resync, toLocal(nowMs));
}

/** Null: only an administrator can say. */
export function resyncOpensAtMs(
  { settings: { resync } }: Decision,
  nowMs: number,
  toLocal: ToLocalTime,
): number | null {
  return resync.mode === "window" ? nextOpeningMs(resync, nowMs, toLocal) : null;
}
