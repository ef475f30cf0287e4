/** Checks at the store's edge; transport has checked the shapes, an embedding program may not have. */
import { DELTA_FORMAT_VERSION, type DeltaHeader } from "../model/delta.js";
import type { DiskGeometry, Generation, ReplicatedVm } from "../model/disk.js";
import { mayBecome } from "../model/disk-changes.js";
import { TidemarkError } from "../model/errors.js";
import { type LineageEntry, sameGeneration, type Succession } from "../model/lineage.js";
import type { CommitRequest } from "../model/replica-endpoint.js";
import { parseUuid } from "../model/uuid.js";

const LARGEST_DISK_BYTES = 2 ** 52;
const LARGEST_SEGMENT_COUNT = 1 << 24;
const LARGEST_DISK_COUNT = 256;
const LONGEST_NAME = 255;

/** Answers the VM with canonical ids. */
export function checkVm(vm: ReplicatedVm): ReplicatedVm {
  const identity = { vmId: parseUuid(vm.vmId, "VM id"), name: checkName(vm.name, "the VM") };
  return { ...identity, ...checkDisks(vm, "the VM") };
}

type Disks = Pick<ReplicatedVm, "disks" | "excludedDisks">;

function checkDisks(given: Disks, what: string): Disks {
  const disks = given.disks.map(checkDisk);
  const excludedDisks = (given.excludedDisks ?? []).map(checkDisk);
  const all = [...disks, ...excludedDisks];
  if (disks.length === 0 || all.length > LARGEST_DISK_COUNT) {
    throw refusal(what, `it has ${disks.length} disks, not 1 to ${LARGEST_DISK_COUNT}`);
  }
  if (new Set(all.map((disk) => disk.diskId)).size < all.length) {
    throw refusal(what, "two of its disks have the same id");
  }
  if (new Set(all.map((disk) => disk.name)).size < all.length) {
    throw refusal(what, "two of its disks have the same name");
  }
  return { disks, ...(excludedDisks.length === 0 ? {} : { excludedDisks }) };
}

/** What is known of a VM must fit what is said of it. */
export function requireSameVm(known: ReplicatedVm, asked: ReplicatedVm): void {
  if (known.name === asked.name && mayBecome(known.disks, asked.disks)) return;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot enable VM ${asked.vmId}: because the replica knows it with another name, or a disk with larger blocks.`,
    { hint: "Remove the VM from the replica first, or use another one." },
  );
}

export function checkGeneration(generation: Generation): Generation {
  checkCount(generation.number, "generation number");
  return { number: generation.number, id: parseUuid(generation.id, "generation id") };
}

/** Answers the succession with canonical ids. */
export function checkSuccession({ vmId, from, to }: Succession): Succession {
  const entry: LineageEntry = {
    generation: checkGeneration(to.generation),
    parentId: parseOptional(to.parentId, "generation id"),
    forkPointId: parseOptional(to.forkPointId, "recovery point id"),
    holderId: parseUuid(to.holderId, "holder id"),
    cause: to.cause,
  };
  return { vmId: parseUuid(vmId, "VM id"), from: checkGeneration(from), to: entry };
}

/** Answers the header with canonical ids. */
export function checkHeader(header: DeltaHeader): DeltaHeader {
  const formatVersion: number = header.formatVersion;
  if (formatVersion !== DELTA_FORMAT_VERSION) {
    throw new TidemarkError(
      "VERSION_UNKNOWN",
      `Cannot receive the delta: because its format is version ${formatVersion} and this build knows ${String(DELTA_FORMAT_VERSION)}.`,
      { hint: "Upgrade the older of the two hosts." },
    );
  }
  checkCount(header.attempt, "attempt");
  checkCount(header.segmentCount + 1, "segment count");
  if (header.segmentCount > LARGEST_SEGMENT_COUNT) {
    throw refusal("the delta", `it has more than ${LARGEST_SEGMENT_COUNT} segments`);
  }
  if (header.kind === "staging" && header.stagingSessionId === null) {
    throw refusal("the delta", "it is for staging and names no session");
  }
  const { excludedDisks: _, ...rest } = header;
  return {
    ...rest,
    deltaId: parseUuid(header.deltaId, "delta id"),
    vmId: parseUuid(header.vmId, "VM id"),
    generation: checkGeneration(header.generation),
    parentPointId: parseOptional(header.parentPointId, "parent point id"),
    stagingSessionId: parseOptional(header.stagingSessionId, "staging session id"),
    ...checkDisks(header, "the delta"),
  };
}

/** Answers the request with canonical ids. */
export function checkCommit(request: CommitRequest): CommitRequest {
  const vmId = parseUuid(request.vmId, "VM id");
  const deltaId = parseUuid(request.deltaId, "delta id");
  const { header: given, ...rest } = request;
  if (given === undefined) return { ...rest, vmId, deltaId };
  const header = checkHeader(given);
  const isThis =
    header.vmId === vmId &&
    header.deltaId === deltaId &&
    header.attempt === request.attempt &&
    sameGeneration(header.generation, request.generation);
  if (!isThis) throw refusal("the delta", "its commit and its header are not of the same");
  if (header.segmentCount > 0 || header.stagingSessionId !== null) {
    throw refusal("the delta", "one with content is announced before it is committed");
  }
  return { ...rest, vmId, deltaId, header };
}

function checkDisk(disk: DiskGeometry): DiskGeometry {
  const { sizeBytes, granularityBytes } = disk;
  const what = `disk ${JSON.stringify(disk.name.slice(0, 60))}`;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes > LARGEST_DISK_BYTES) {
    throw refusal(what, `its size ${sizeBytes} is not from 1 to 2^52 bytes`);
  }
  const isPowerOfTwo = Number.isInteger(Math.log2(granularityBytes));
  if (!isPowerOfTwo || granularityBytes < 4096 || granularityBytes > 2 ** 26) {
    throw refusal(
      what,
      `its granularity ${granularityBytes} is no power of two from 4 KiB to 64 MiB`,
    );
  }
  const name = checkName(disk.name, what);
  return { diskId: parseUuid(disk.diskId, "disk id"), name, sizeBytes, granularityBytes };
}

function checkName(name: string, what: string): string {
  if (name.length === 0 || name.length > LONGEST_NAME) {
    throw refusal(what, `its name has ${name.length} characters, not 1 to ${LONGEST_NAME}`);
  }
  if (/\p{Cc}/u.test(name)) throw refusal(what, "its name has control characters");
  return name;
}

function checkCount(value: number, what: string): void {
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot use ${String(value)} as ${what}: because it is not a positive whole number.`,
    );
  }
}

function parseOptional(id: string | null, what: string): string | null {
  return id === null ? null : parseUuid(id, what);
}

function refusal(what: string, reason: string): TidemarkError {
  return new TidemarkError("INVALID_ARGUMENT", `Cannot accept ${what}: because ${reason}.`);
}
