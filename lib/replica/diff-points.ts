/** What changed between two points, from the indexes of the layers between them. */
import { type ExtentList, lengthOf } from "../model/block-hashes.js";
import type { DiskGeometry } from "../model/disk.js";
import { TidemarkError } from "../model/errors.js";
import { intersect, subtract, unionOf } from "../model/extent-list.js";
import type { DiskDifference, PointDifference } from "../model/point-difference.js";
import type { NativeDevice } from "../tracking/binding.js";
import { openPointDisk } from "./open-point-disk.js";
import { openedPoint, type OpenedPoint, type PointDisk } from "./opened-point.js";
import type { LayerNative, ReplicaTools } from "./replica-tools.js";
import type { VmReplica } from "./vm-replica.js";
import { layersBetween, writtenBetween } from "./written-between.js";

const EXTENTS_ANSWERED = 10_000;
const PIECE_BYTES = 1 << 20;
/** What is told apart within a piece. */
const GRAIN_BYTES = 4096;

export interface DiffRequest {
  readonly fromSequence: number;
  readonly toSequence: number;
  /** Reads both points where something changed and compares the bytes. */
  readonly withContent: boolean;
  readonly signal?: AbortSignal;
}

/** In either order; NOT_FOUND. */
export async function diffPoints(
  tools: ReplicaTools,
  replica: VmReplica,
  request: DiffRequest,
): Promise<PointDifference> {
  const { fromSequence, toSequence } = request;
  const { from, to } = await replica.lock.run(() => openBoth(replica, request));
  try {
    const disks: DiskDifference[] = [];
    for (const disk of to.disks) {
      const { diskId } = disk.geometry;
      // One that only one of the points has is not compared.
      const former = from.disks.find(({ geometry }) => geometry.diskId === diskId);
      if (former !== undefined) disks.push(await diffDisk(tools, replica, request, former, disk));
    }
    const sum = (of: (disk: DiskDifference) => number) => disks.reduce((all, d) => all + of(d), 0);
    const changedBytes = sum((disk) => disk.changedBytes);
    const differingBytes = request.withContent ? sum((disk) => disk.differingBytes ?? 0) : null;
    return { fromSequence, toSequence, changedBytes, differingBytes, disks };
  } finally {
    from.release();
    to.release();
  }
}

/** Both or none: what stays open is kept for good. */
async function openBoth(
  replica: VmReplica,
  { fromSequence, toSequence }: DiffRequest,
): Promise<{ readonly from: OpenedPoint; readonly to: OpenedPoint }> {
  const from = await openBySequence(replica, fromSequence);
  try {
    return { from, to: await openBySequence(replica, toSequence) };
  } catch (thrown) {
    from.release();
    throw thrown;
  }
}

async function openBySequence(replica: VmReplica, sequence: number): Promise<OpenedPoint> {
  const manifest = replica.chain.shown().find(({ point }) => point.sequence === sequence);
  if (manifest !== undefined) return openedPoint(replica, manifest.point.pointId, "passing");
  throw new TidemarkError(
    "NOT_FOUND",
    `Cannot compare with recovery point ${sequence}: because VM ${replica.document.vm.vmId} has none of that number.`,
    { hint: "List the VM's recovery points and choose two of them." },
  );
}

async function diffDisk(
  { native }: ReplicaTools,
  replica: VmReplica,
  { fromSequence, toSequence, withContent, signal }: DiffRequest,
  former: PointDisk,
  disk: PointDisk,
): Promise<DiskDifference> {
  const { diskId, name } = disk.geometry;
  const between = layersBetween(replica.chain, fromSequence, toSequence);
  const written = await writtenBetween(native, replica.paths, disk.geometry, between);
  const changed = withinEither(written, former.geometry, disk.geometry);
  const differing = withContent
    ? await compareContent(native, former, disk, changed, signal)
    : null;
  const extents = differing ?? changed;
  return {
    diskId,
    name,
    fromSizeBytes: former.geometry.sizeBytes,
    toSizeBytes: disk.geometry.sizeBytes,
    changedBytes: lengthOf(changed),
    differingBytes: differing === null ? null : lengthOf(differing),
    extents: extents.slice(0, 2 * EXTENTS_ANSWERED),
    isCutOff: extents.length > 2 * EXTENTS_ANSWERED,
  };
}

/** With what only the larger of the two has. */
function withinEither(written: ExtentList, a: DiskGeometry, b: DiskGeometry): ExtentList {
  const smaller = Math.min(a.sizeBytes, b.sizeBytes);
  const larger = Math.max(a.sizeBytes, b.sizeBytes);
  return intersect(unionOf(written, [smaller, larger - smaller]), [0, larger]);
}

/** Where no layer between the two says anything they are the same by what they are made of. */
async function compareContent(
  native: LayerNative,
  former: PointDisk,
  disk: PointDisk,
  changed: ExtentList,
  signal: AbortSignal | undefined,
): Promise<ExtentList> {
  const devices: NativeDevice[] = [];
  try {
    const a = await openPointDisk(native, former);
    devices.push(a);
    const b = await openPointDisk(native, disk);
    devices.push(b);
    const both = Math.min(a.sizeBytes, b.sizeBytes);
    const inBoth = intersect(changed, [0, both]);
    const differing: number[] = [];
    for (let i = 0; i + 1 < inBoth.length; i += 2) {
      const [offset = 0, length = 0] = [inBoth[i], inBoth[i + 1]];
      for (let at = offset; at < offset + length; at += PIECE_BYTES) {
        signal?.throwIfAborted();
        const pieceBytes = Math.min(PIECE_BYTES, offset + length - at);
        differing.push(...(await comparePiece(a, b, at, pieceBytes)));
      }
    }
    return unionOf(differing, subtract(changed, [0, both]));
  } finally {
    for (const device of devices) await device.close();
  }
}

async function comparePiece(
  a: NativeDevice,
  b: NativeDevice,
  offsetBytes: number,
  lengthBytes: number,
): Promise<number[]> {
  const [ours, theirs] = [Buffer.alloc(lengthBytes), Buffer.alloc(lengthBytes)];
  await a.read(offsetBytes, ours);
  await b.read(offsetBytes, theirs);
  const differing: number[] = [];
  if (ours.equals(theirs)) return differing;
  for (let at = 0; at < lengthBytes; at += GRAIN_BYTES) {
    const grain = ours.subarray(at, at + GRAIN_BYTES);
    if (grain.equals(theirs.subarray(at, at + GRAIN_BYTES))) continue;
    differing.push(offsetBytes + at, grain.length);
  }
  return differing;
}
