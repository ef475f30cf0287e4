import { randomUUID } from "node:crypto";
import { dirname } from "node:path";
import { deltaDigest } from "../model/delta-digest.js";
import type { Generation } from "../model/disk.js";
import { TidemarkError } from "../model/errors.js";
import {
  BASE_DOCUMENT,
  type BaseDocument,
  POINT_MANIFEST,
  type PointManifest,
} from "./documents.js";
import { readDocument, writeDocument } from "./durable-document.js";
import type { ReleasedDisks } from "./former-primary.js";
import type { ReplicaTools } from "./replica-tools.js";
import type { VmReplica } from "./vm-replica.js";

/** The base's own point. */
export const FIRST_SEQUENCE = 1;

/**
 * Disks that this host had become the base of a VM's replica, where they are. What they
 * hold is its first recovery point: pinned, since nobody else may have it. Durable when it
 * resolves; the VM has no point until the last step, and each may be repeated.
 */
export async function adoptDisks(
  { files }: ReplicaTools,
  { document, paths }: VmReplica,
  { generation, paths: diskPaths }: ReleasedDisks,
): Promise<void> {
  const { vm } = document;
  for (const { diskId, name } of vm.disks) {
    const target = diskPaths.get(diskId);
    if (target === undefined) throw lacksDisk(vm.name, name);
    const base = paths.diskBase(diskId);
    await files.makeDirectory(dirname(base));
    await files.linkTo(base, target);
    await files.syncDirectory(dirname(base));
  }
  const isBegun = (await files.size(paths.baseFile)) !== null;
  const base = isBegun
    ? await readDocument(files, BASE_DOCUMENT, paths.baseFile)
    : { vmId: vm.vmId, pointId: randomUUID(), sequence: FIRST_SEQUENCE, mergingSequence: null };
  if (!isBegun) await writeDocument(files, BASE_DOCUMENT, paths.baseFile, base);
  const manifest = branchPoint(document.vm, base, generation);
  await writeDocument(files, POINT_MANIFEST, paths.point(FIRST_SEQUENCE), manifest);
}

function branchPoint(
  vm: VmReplica["document"]["vm"],
  { pointId }: BaseDocument,
  generation: Generation,
): PointManifest {
  const nowMs = Date.now();
  const disks = vm.disks.map(({ diskId, name, sizeBytes, granularityBytes }) => {
    return { diskId, name, sizeBytes, granularityBytes, layers: [] };
  });
  return {
    vmId: vm.vmId,
    point: {
      pointId: pointId ?? randomUUID(),
      sequence: FIRST_SEQUENCE,
      parentPointId: null,
      generation,
      takenAtMs: nowMs,
      validUntilMs: nowMs,
      cutSequence: FIRST_SEQUENCE,
      consistency: "crash",
      digest: deltaDigest([]),
      changedBytes: 0,
    },
    stagingSessionId: null,
    extendedBy: null,
    since: null,
    label: `as this host left it, generation ${generation.number}`,
    isPinned: true,
    receivedAtMs: nowMs,
    chainTimeMs: nowMs,
    disks,
  };
}

function lacksDisk(vmName: string, diskName: string): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    `Cannot take VM ${vmName} back: because this host never had its disk ${diskName}.`,
    { hint: "Remove the VM here, and enable its replication to this host anew." },
  );
}
