/**
 * An existing disk becomes what a first copy begins with: a staging session with one
 * delta that the replica made itself. It is no recovery point and need not be one
 * instant of anything: the primary compares all of it by hash, and what differs
 * travels into the same session before a closing point takes it in.
 *
 * Until the session is there, which one document decides, nothing of it counts.
 */
import { randomUUID } from "node:crypto";
import type { DeltaHeader } from "../model/delta.js";
import type { DiskGeometry } from "../model/disk.js";
import { TidemarkError } from "../model/errors.js";
import type { FilePart, FillFromFile, SeedDisk } from "../model/seed.js";
import { opened } from "../tracking/native-call.js";
import { OpenDelta } from "./open-delta.js";
import type { ReplicaTools } from "./replica-tools.js";
import { sealDelta } from "./seal-delta.js";
import { StagingSession } from "./staging-session.js";
import type { VmReplica } from "./vm-replica.js";

const PART_BYTES = 64 * 1024 * 1024;

export async function seedVm(
  tools: ReplicaTools,
  replica: VmReplica,
  disks: readonly SeedDisk[],
  fill: FillFromFile,
  signal?: AbortSignal,
): Promise<void> {
  requireSeedable(replica);
  const parts = await partsOf(tools, replica, disks);
  const delta = newDelta(replica, parts.length);
  try {
    await tools.files.makeDirectory(delta.directory);
    for (const [segmentIndex, part] of parts.entries()) {
      signal?.throwIfAborted();
      await fillSegment(
        delta,
        { ...part, deltaId: delta.header.deltaId, segmentIndex },
        fill,
        signal,
      );
    }
    await replica.lock.run(() => adopt(tools, replica, delta));
  } finally {
    await tools.files.removeTree(delta.directory).catch(() => undefined);
  }
}

type PartOfDisk = Omit<FilePart, "deltaId" | "segmentIndex">;

async function partsOf(
  tools: ReplicaTools,
  { document }: VmReplica,
  seeds: readonly SeedDisk[],
): Promise<readonly PartOfDisk[]> {
  const parts: PartOfDisk[] = [];
  const seen = new Set<number>();
  for (const { name, path } of seeds) {
    const diskIndex = document.vm.disks.findIndex(
      (disk) => disk.name === name || disk.diskId === name,
    );
    const disk = document.vm.disks[diskIndex];
    if (disk === undefined) throw noSuchDisk(name, document.vm.disks);
    if (seen.has(diskIndex)) throw refusal("INVALID_ARGUMENT", `disk ${name} is named twice`);
    seen.add(diskIndex);
    await requireFits(tools, disk, path);
    const { granularityBytes, sizeBytes: diskSizeBytes } = disk;
    for (let offsetBytes = 0; offsetBytes < diskSizeBytes; offsetBytes += PART_BYTES) {
      const lengthBytes = Math.min(PART_BYTES, diskSizeBytes - offsetBytes);
      parts.push({ path, diskIndex, granularityBytes, diskSizeBytes, offsetBytes, lengthBytes });
    }
  }
  return parts;
}

/** NOT_FOUND; IN_USE: somebody writes to it. */
async function requireFits(tools: ReplicaTools, disk: DiskGeometry, path: string): Promise<void> {
  const device = await opened(path, () =>
    tools.native.openFileDevice(path, true, false, "exclusive"),
  );
  const { sizeBytes } = device;
  await device.close();
  if (sizeBytes <= disk.sizeBytes) return;
  throw refusal(
    "INVALID_ARGUMENT",
    `${path} has ${sizeBytes} bytes and disk ${disk.name} only ${disk.sizeBytes}`,
    "Name a raw copy of that disk.",
  );
}

function requireSeedable(replica: VmReplica): void {
  replica.refuseIfDamaged();
  if (replica.chain.head() !== null) {
    throw refusal(
      "ALREADY_EXISTS",
      "the VM has a recovery point",
      "Nothing: its first copy is here.",
    );
  }
  if (replica.session === null) return;
  throw refusal(
    "CONFLICT",
    "its first copy has begun already",
    "Wait for its first recovery point, or remove the replication and enable it again.",
  );
}

/** Not the VM's open delta: nobody else sends to it, and no restart finds it. */
function newDelta(replica: VmReplica, segmentCount: number): OpenDelta {
  const { vm, generation } = replica.document;
  const header: DeltaHeader = {
    formatVersion: 1,
    deltaId: randomUUID(),
    attempt: 1,
    kind: "staging",
    vmId: vm.vmId,
    generation,
    parentPointId: null,
    stagingSessionId: randomUUID(),
    cut: { sequence: 1, takenAtMs: 0, pauseNs: 0, requestsInFlight: 0, consistency: "crash" },
    disks: vm.disks,
    segmentCount,
  };
  const openingId = randomUUID();
  const document = { openingId, header, order: replica.takeOrder() };
  return new OpenDelta(document, replica.paths.deltaDirectory(openingId));
}

async function fillSegment(
  delta: OpenDelta,
  part: FilePart,
  fill: FillFromFile,
  signal?: AbortSignal,
): Promise<void> {
  const { segmentIndex, lengthBytes: contentBytes } = part;
  const { vmId, deltaId, attempt } = delta.header;
  const slot = delta.reserve({ vmId, deltaId, attempt, segmentIndex, contentBytes });
  try {
    const receipt = await fill(slot, part, signal);
    if (receipt !== null) delta.complete(slot.slotId, receipt);
  } finally {
    delta.release(slot.slotId);
  }
}

async function adopt(tools: ReplicaTools, replica: VmReplica, delta: OpenDelta): Promise<void> {
  requireSeedable(replica);
  const { vmId, generation, deltaId, stagingSessionId } = delta.header;
  const disks = await sealDelta(tools, replica.paths, delta, 1);
  const session = await StagingSession.createWith(
    tools.files,
    replica.paths,
    {
      vmId,
      sessionId: stagingSessionId ?? randomUUID(),
      parentPointId: null,
      generation,
      order: delta.order,
    },
    { deltaId, digest: delta.digest(), disks },
  );
  replica.adoptSession(session);
}

function noSuchDisk(name: string, disks: readonly DiskGeometry[]): TidemarkError {
  return refusal(
    "NOT_FOUND",
    `it has no disk ${name}`,
    `Its disks are ${disks.map((disk) => disk.name).join(", ")}.`,
  );
}

function refusal(
  code: ConstructorParameters<typeof TidemarkError>[0],
  reason: string,
  hint?: string,
): TidemarkError {
  const options = hint === undefined ? {} : { hint };
  return new TidemarkError(code, `Cannot begin from an existing disk: because ${reason}.`, options);
}
