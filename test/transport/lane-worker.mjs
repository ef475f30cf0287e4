/**
 * A lane whose records are what the test put into the plan: pieces to send as
 * they are, or a recipe for pseudo-random ones.
 */
import { setTimeout as delay } from "node:timers/promises";
import { newSegmentDigest } from "#lib/tracking/segment-digest.js";
import { runLane } from "#lib/transport/lane.js";
import { generatedPieces } from "./generated-pieces.mjs";

/** A defect outside of anybody's promise. */
function planted() {
  return new Promise(() => {
    queueMicrotask(() => {
      throw new Error("a planted defect");
    });
  });
}

runLane(async function* (plan, _deltaId, signal) {
  const { pieces, recipe } = plan.test;
  if (pieces !== undefined) {
    yield* pieces;
    return;
  }
  const counter = recipe.counter === undefined ? undefined : new BigInt64Array(recipe.counter);
  let index = 0;
  for (const piece of generatedPieces(recipe)) {
    signal.throwIfAborted();
    if (index === recipe.dieAtPiece) await planted();
    if (index === recipe.failAtPiece) {
      throw Object.assign(new Error("Cannot read: because the capture broke."), {
        code: "CAPTURE_BROKEN",
      });
    }
    if (recipe.delayMs > 0) await delay(recipe.delayMs, undefined, { signal });
    if (counter !== undefined) Atomics.add(counter, 0, BigInt(piece.length));
    yield piece;
    index += 1;
  }
}, newSegmentDigest);
