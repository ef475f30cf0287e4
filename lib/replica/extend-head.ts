/** An empty cycle: the newest point is still what the disks hold. */
import { areSameCutDisks, cutDisksOf } from "../model/cut-disks.js";
import type { DeltaHeader } from "../model/delta.js";
import { extendedPoint } from "../model/extended-point.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import { type CommitContext, writeManifest } from "./commit-context.js";
import type { PointManifest } from "./documents.js";

/** Of other disks the head stands for no delta, even though nothing else has changed. */
export function standsFor(head: PointManifest, header: DeltaHeader): boolean {
  const { kind, segmentCount, stagingSessionId } = header;
  const isEmpty = segmentCount === 0 && stagingSessionId === null;
  return kind === "point" && isEmpty && areSameCutDisks(cutDisksOf(head), cutDisksOf(header));
}

/** Durable when it resolves. */
export async function extendHead(
  context: CommitContext,
  head: PointManifest,
  { deltaId, cut }: DeltaHeader,
  digest: string,
): Promise<RecoveryPoint> {
  const extended: PointManifest = {
    ...head,
    point: extendedPoint(head.point, cut),
    extendedBy: { deltaId, digest },
  };
  await writeManifest(context, extended);
  context.chain.replace(extended);
  return extended.point;
}
