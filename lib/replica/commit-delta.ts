/**
 * The steps that make a delta count. Their order is the promise: layers whole
 * and durable, then the one small file that names them, then the answer.
 */
import { TidemarkError } from "../model/errors.js";
import { failpoint } from "../model/failpoint.js";
import { pointOfDelta } from "../model/point-of-delta.js";
import type { CommitRequest, RecoveryPoint } from "../model/replica-endpoint.js";
import { nextChainTimeMs } from "./chain-clock.js";
import { type CommitContext, writeManifest } from "./commit-context.js";
import type { LayeredDisk, PointManifest } from "./documents.js";
import { extendHead, standsFor } from "./extend-head.js";
import type { OpenDelta } from "./open-delta.js";
import type { PointChain } from "./point-chain.js";
import { sealDelta } from "./seal-delta.js";
import type { StagingSession } from "./staging-session.js";

/** What a repeated commit is answered; undefined when the delta was not committed before. */
export function answerOfEarlierCommit(
  chain: PointChain,
  session: StagingSession | null,
  request: CommitRequest,
): RecoveryPoint | null | undefined {
  const head = chain.head();
  if (head?.extendedBy?.deltaId === request.deltaId) return head.point;
  if (session !== null && session.find(request.deltaId) !== null) {
    return sameDigest(session.find(request.deltaId)?.digest, request) ? null : undefined;
  }
  const point = chain.find(request.deltaId)?.point;
  if (point === undefined) return undefined;
  return sameDigest(point.digest, request) ? point : undefined;
}

function sameDigest(digest: string | undefined, request: CommitRequest): boolean {
  if (digest === request.digest) return true;
  throw new TidemarkError(
    "CORRUPT",
    `Cannot commit delta ${request.deltaId}: because it was committed with another digest.`,
  );
}

export async function commitDelta(
  context: CommitContext,
  session: StagingSession | null,
  delta: OpenDelta,
  digest: string,
): Promise<RecoveryPoint | null> {
  const { header } = delta;
  const head = context.chain.head();
  if (head !== null && standsFor(head, header)) return extendHead(context, head, header, digest);
  const sequence = (head?.point.sequence ?? 0) + 1;
  const disks = await sealDelta(context.tools, context.paths, delta, sequence);
  failpoint("commit");
  const isNamed = header.stagingSessionId !== null;
  if (header.kind === "staging" && session !== null) {
    await stage(context, session, delta, digest, disks);
    return null;
  }
  const taken = isNamed && session !== null ? withStaged(disks, session) : disks;
  const placed = withBegins(taken, head);
  const receivedAtMs = context.tools.nowMs();
  return writePoint(context, {
    ...newManifest(delta, sequence, digest, placed),
    receivedAtMs,
    chainTimeMs: nextChainTimeMs(head, header.cut.takenAtMs, receivedAtMs),
  });
}

/** A disk that the head does not have was another before, if it was one of the VM at all. */
function withBegins(
  disks: readonly LayeredDisk[],
  head: PointManifest | null,
): readonly LayeredDisk[] {
  if (head === null) return disks;
  const former = new Set(head.disks.map(({ diskId }) => diskId));
  return disks.map((disk) => (former.has(disk.diskId) ? disk : { ...disk, begins: true }));
}

async function stage(
  context: CommitContext,
  session: StagingSession,
  delta: OpenDelta,
  digest: string,
  disks: readonly LayeredDisk[],
): Promise<void> {
  const { vmId, deltaId } = delta.header;
  const { sessionId } = session;
  await session.add(context.tools.files, { vmId, sessionId, deltaId, digest, disks });
}

/** The session's layers lie below the delta's own. */
function withStaged(
  disks: readonly LayeredDisk[],
  session: StagingSession,
): readonly LayeredDisk[] {
  return disks.map((disk) => ({
    ...disk,
    layers: [...session.layers(disk.diskId), ...disk.layers],
  }));
}

function newManifest(
  delta: OpenDelta,
  sequence: number,
  digest: string,
  disks: readonly LayeredDisk[],
): Omit<PointManifest, "receivedAtMs" | "chainTimeMs"> {
  const { vmId, stagingSessionId, excludedDisks = [] } = delta.header;
  const layers = disks.flatMap((disk) => disk.layers);
  const point = pointOfDelta(delta.header, {
    sequence,
    digest,
    changedBytes: layers.reduce((sum, layer) => sum + layer.dataBytes + layer.zeroBytes, 0),
  });
  const excluded = excludedDisks.length === 0 ? {} : { excludedDisks };
  const untouched = { extendedBy: null, since: null, label: null, isPinned: false };
  return { vmId, point, stagingSessionId, ...untouched, disks, ...excluded };
}

async function writePoint(context: CommitContext, manifest: PointManifest): Promise<RecoveryPoint> {
  const { tools, paths, chain } = context;
  try {
    await writeManifest(context, manifest);
  } catch (thrown) {
    // The name may or may not survive a power loss: nothing may build on either.
    const path = paths.point(manifest.point.sequence);
    if ((await tools.files.size(path)) !== null) chain.markDamaged(unsure(path, thrown));
    throw thrown;
  }
  chain.append(manifest);
  return manifest.point;
}

function unsure(path: string, cause: unknown): TidemarkError {
  return new TidemarkError(
    "IO_ERROR",
    `Cannot go on with this VM: because it is not known whether ${path} is durable.`,
    { hint: "Check the storage, then restart the service.", cause },
  );
}
