import { TidemarkError } from "../model/errors.js";
import type { VerificationReport } from "../model/verification.js";
import { scrubBases } from "./scrub-base.js";
import type { ScrubFindings } from "./scrub-context.js";
import { scrubDocuments } from "./scrub-documents.js";
import { scrubLayers } from "./scrub-layers.js";
import type { ReplicaTools } from "./replica-tools.js";
import type { ScrubPace } from "./scrub-pace.js";
import type { VmReplica } from "./vm-replica.js";

export interface ScrubRequest {
  /** Null: everything that is there. */
  readonly pointSequence: number | null;
  /** See ScrubContext. */
  readonly mends: boolean;
  readonly pace: ScrubPace;
  readonly signal: AbortSignal;
  /** Filled while it runs. */
  readonly findings: ScrubFindings;
  readonly nowMs: () => number;
}

/**
 * Reads what a recovery point is made of (or all points) from the storage again and
 * holds it against its checksums. Points come and go meanwhile: nothing is pinned,
 * nothing waits for it. Changes nothing but the VM's ledger of damage.
 */
export async function scrubVm(
  tools: ReplicaTools,
  replica: VmReplica,
  { pointSequence, mends, pace, signal, findings, nowMs }: ScrubRequest,
): Promise<VerificationReport> {
  const startedAtMs = nowMs();
  const upToSequence = pointSequence ?? Number.MAX_SAFE_INTEGER;
  const context = { tools, replica, pace, signal, upToSequence, mends, findings };
  await scrubDocuments(context);
  await scrubLayers(context);
  await scrubBases(context);
  const { verifiedBytes, unknownBytes, damage, mendedFiles } = findings;
  const report: VerificationReport = {
    startedAtMs,
    endedAtMs: nowMs(),
    pointSequence,
    verifiedBytes,
    unknownBytes,
    result: damage.length === 0 ? "good" : "damaged",
    damage,
    mendedFiles,
  };
  const ledger = await replica.ledger();
  await replica.lock.run(() => ledger.take(report));
  return report;
}

/** About what will be read: of layers what they hold, of bases what they take. */
export async function scrubBytes(
  { files }: ReplicaTools,
  { chain, paths }: VmReplica,
  pointSequence: number | null,
): Promise<number> {
  let bytes = 0;
  for (const { disks } of chain.aboveBase(pointSequence ?? Number.MAX_SAFE_INTEGER)) {
    for (const { layers } of disks) for (const { dataBytes } of layers) bytes += dataBytes;
  }
  for (const { diskId } of chain.baseManifest?.disks ?? []) {
    bytes += (await files.size(paths.diskBase(diskId)))?.allocatedBytes ?? 0;
  }
  return bytes;
}

/** NOT_FOUND when the VM has no such point. */
export function requirePoint({ chain, document }: VmReplica, sequence: number): void {
  if (chain.shown().some(({ point }) => point.sequence === sequence)) return;
  throw new TidemarkError(
    "NOT_FOUND",
    `Cannot verify recovery point ${sequence}: because VM ${document.vm.vmId} has none of that number.`,
    { hint: "List the VM's recovery points and choose one of them." },
  );
}
