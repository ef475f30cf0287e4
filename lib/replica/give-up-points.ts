/**
 * Giving up points is one small document for each run of neighbours; their layers go on as
 * a part of the next point that is kept. Merging them is another matter, and another time.
 */
import {
  BASE_DOCUMENT,
  type BaseDocument,
  type LayeredDisk,
  type PointManifest,
} from "./documents.js";
import { writeDocument } from "./durable-document.js";
import { placeOf } from "./point-chain.js";
import type { ReplicaTools } from "./replica-tools.js";
import { rewriteManifest, settleManifests } from "./rewrite-manifest.js";
import type { VmReplica } from "./vm-replica.js";

/** Under the VM's lock. The newest, pinned and opened points stay, whatever is asked for. */
export async function giveUpPoints(
  tools: ReplicaTools,
  replica: VmReplica,
  pointIds: ReadonlySet<string>,
): Promise<void> {
  replica.refuseIfDamaged();
  await settleManifests(tools.files, replica);
  const shown = replica.chain.shown();
  const isGivenUp = (manifest: PointManifest) =>
    pointIds.has(manifest.point.pointId) && whyKept(replica, manifest) === null;
  const firstKept = shown.findIndex((manifest) => !isGivenUp(manifest));
  const first = shown[firstKept];
  if (first === undefined) return;
  if (firstKept > 0) await giveUpBefore(tools, replica, first.point.sequence);
  let run: PointManifest[] = [];
  for (const manifest of shown.slice(firstKept)) {
    if (isGivenUp(manifest)) run.push(manifest);
    else {
      if (run.length > 0) await handOver(tools, replica, run, manifest);
      run = [];
    }
  }
}

/** Why the point cannot be given up now, to follow a "because"; null: it can. */
export function whyKept({ chain, pins }: VmReplica, { point, isPinned }: PointManifest) {
  const { pointId } = point;
  if (pointId === chain.head()?.point.pointId) return "it is the newest";
  if (isPinned) return "it is pinned";
  return pins.isHeld(pointId) ? "it is open" : null;
}

/** The oldest: their layers wait for the base to take them in. */
async function giveUpBefore(
  tools: ReplicaTools,
  replica: VmReplica,
  sequence: number,
): Promise<void> {
  await moveBase(tools, replica, { ...replica.chain.base, mergingSequence: sequence });
}

async function handOver(
  { files }: ReplicaTools,
  replica: VmReplica,
  run: readonly PointManifest[],
  heir: PointManifest,
): Promise<void> {
  const [first = heir] = run;
  const disks = heir.disks.map((disk) => takenOver(disk, run));
  await rewriteManifest(files, replica, { ...heir, since: placeOf(first), disks });
  for (const { point } of run) await replica.tidy(replica.paths.point(point.sequence));
  const kept = replica.chain.layerFileNames();
  const layers = run.flatMap((manifest) => manifest.disks.flatMap((disk) => disk.layers));
  const gone = layers.filter((layer) => !kept.has(layer.fileName));
  for (const layer of gone) await replica.tidy(replica.paths.layer(layer.fileName));
}

/** With the layers of the points before it; of a disk that began on the way, from there on. */
function takenOver(disk: LayeredDisk, run: readonly PointManifest[]): LayeredDisk {
  let { begins, layers } = disk;
  for (const manifest of [...run].reverse()) {
    if (begins === true) break;
    const former = manifest.disks.find(({ diskId }) => diskId === disk.diskId);
    layers = [...(former?.layers ?? []), ...layers];
    begins = former?.begins;
  }
  return { ...disk, layers, ...(begins === true ? { begins } : {}) };
}

export async function moveBase(
  tools: ReplicaTools,
  replica: VmReplica,
  base: BaseDocument,
): Promise<void> {
  await writeDocument(tools.files, BASE_DOCUMENT, replica.paths.baseFile, base);
  replica.chain.moveBase(base);
}
