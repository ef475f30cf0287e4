import { isDeepStrictEqual } from "node:util";
import type { DeltaHeader } from "../model/delta.js";
import { type ErrorCode, TidemarkError } from "../model/errors.js";
import type { OpenDelta } from "./open-delta.js";

export function deltaRefusal(code: ErrorCode, header: DeltaHeader, reason: string): TidemarkError {
  return new TidemarkError(
    code,
    `Cannot take delta ${header.deltaId} (attempt ${header.attempt}): because ${reason}.`,
  );
}

export function wrongDigest(header: DeltaHeader): TidemarkError {
  return deltaRefusal("CORRUPT", header, "what arrived does not have the digest that was given");
}

export function refuseEarlierAttempt(open: DeltaHeader, header: DeltaHeader): void {
  if (header.attempt > open.attempt) return;
  const isSame = header.attempt === open.attempt && isDeepStrictEqual(header, open);
  if (isSame) return;
  throw deltaRefusal("CONFLICT", header, `attempt ${open.attempt} of it is open`);
}

export function requireSegments(delta: OpenDelta, digest: string): void {
  const missing = delta.missingSegmentCount();
  if (missing > 0)
    throw deltaRefusal("CONFLICT", delta.header, `${missing} of its segments are missing`);
  if (delta.digest() !== digest) throw wrongDigest(delta.header);
}
