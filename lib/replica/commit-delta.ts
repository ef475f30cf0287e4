/**
 * The steps that make a delta count. Their order is the promise: layers whole
 * and durable, then the one small file that names them, then the answer.
 */
import { TidemarkError } from "../model/errors.js";
import { areSameCutDisks, cutDisksOf } from "../model/cut-disks.js";
import { extendedPoint } from "../model/extended-point.js";
import { failpoint } from "../model/failpoint.js";
import { pointOfDelta } from "../model/point-of-delta.js";
import type { CommitRequest, RecoveryPoint } from "../model/replica-endpoint.js";
import { nextChainTimeMs } from "./chain-clock.js";
import { type LayeredDisk, POINT_MANIFEST, type PointManifest } from "./documents.js";
import { writeDocument } from "./durable-document.js";
import type { OpenDelta } from "./open-delta.js";
import type { PointChain } from "./point-chain.js";
import type { ReplicaTools } from "./replica-tools.js";
import { sealDelta } from "./seal-delta.js";
import type { StagingSession } from "./staging-session.js";
import type { VmPaths } from "./store-paths.js";

export interface CommitContext {
  readonly tools: ReplicaTools;
  readonly paths: VmPaths;
  readonly chain: PointChain;
}

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
  const isEmpty = header.segmentCount === 0 && header.stagingSessionId === null;
  if (header.kind === "point" && isEmpty && head !== null && isSameCut(head, delta)) {
    return extendHead(context, head, delta, digest);
  }
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

/** Else the head does not stand for the delta, even though nothing else has changed. */
function isSameCut(head: PointManifest, { header }: OpenDelta): boolean {
  return areSameCutDisks(cutDisksOf(head), cutDisksOf(header));
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

/** An empty cycle: the head is still what the disks hold. */
async function extendHead(
  context: CommitContext,
  head: PointManifest,
  delta: OpenDelta,
  digest: string,
): Promise<RecoveryPoint> {
  const { deltaId, cut } = delta.header;
  const extended: PointManifest = {
    ...head,
    point: extendedPoint(head.point, cut),
    extendedBy: { deltaId, digest },
  };
  await writeManifest(context, extended);
  context.chain.replace(extended);
  return extended.point;
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

async function writeManifest(context: CommitContext, manifest: PointManifest): Promise<void> {
  const path = context.paths.point(manifest.point.sequence);
  await writeDocument(context.tools.files, POINT_MANIFEST, path, manifest, failpoint);
}

function unsure(path: string, cause: unknown): TidemarkError {
  return new TidemarkError(
    "IO_ERROR",
    `Cannot go on with this VM: because it is not known whether ${path} is durable.`,
    { hint: "Check the storage, then restart the service.", cause },
  );
}
