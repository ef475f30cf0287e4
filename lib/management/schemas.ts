/** What travels over the management API, as zod schemas; the types are inferred from them. */
import { z } from "zod";
import { SUSPICION_CAUSES } from "../model/suspicion.js";

const uuid = z.uuid();
const bytes = z.number().int().nonnegative();
const milliseconds = z.number().nonnegative();

export const diskSpecification = z.strictObject({
  path: z.string().min(1).max(4096),
  /** Default: vda, vdb, ... in order. */
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/)
    .optional(),
});

const groupName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/);

export const vmEnableRequest = z.strictObject({
  name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
  disks: z.array(diskSpecification).min(1).max(64),
  replicaUrl: z.url({ protocol: /^https$/ }),
  intervalMs: z.number().int().min(1000).max(86_400_000).default(5000),
  compressionLevel: z.number().int().min(1).max(19).default(1),
  /** The consistency group that the VM is cut with; its VMs have one interval. */
  group: groupName.optional(),
});

export const vmGroupRequest = z.strictObject({
  /** Null: it leaves the one it is in. */
  group: groupName.nullable(),
});

export const failoverRequest = z.strictObject({
  /** Default: the newest. */
  pointId: uuid.optional(),
});

export const diskResizeRequest = z.strictObject({
  sizeBytes: z
    .number()
    .int()
    .min(1)
    .max(2 ** 52),
  /** Ends the disk's NBD connections after what is in flight, for clients that reconnect. */
  reconnectClients: z.boolean().default(false),
  /** For a smaller size: what lies past the new end is gone. */
  dropsData: z.boolean().default(false),
});

const groupCutFields = {
  groupId: uuid,
  name: z.string(),
  cutNumber: z.number().int(),
  memberVmIds: z.array(uuid).readonly(),
  takenVmIds: z.array(uuid).readonly(),
};

export const groupCut = z.object(groupCutFields);

export const recoveryPoint = z.object({
  pointId: uuid,
  sequence: z.number().int(),
  parentPointId: uuid.nullable(),
  generation: z.object({ number: z.number().int(), id: uuid }),
  takenAtMs: milliseconds,
  validUntilMs: milliseconds,
  cutSequence: z.number().int(),
  consistency: z.enum(["crash", "application"]),
  digest: z.string(),
  changedBytes: bytes,
  group: z.object({ ...groupCutFields, validUntilCutNumber: z.number().int() }).optional(),
});

/** The points that belong to one cut of a consistency group. */
export const groupRecoveryPoint = z.object({
  groupId: uuid,
  name: z.string(),
  cutNumber: z.number().int(),
  takenAtMs: milliseconds,
  points: z.array(z.object({ vmId: uuid, pointId: uuid.nullable() })).readonly(),
  isComplete: z.boolean(),
});

export const pauseSummary = z.object({
  count: z.number().int(),
  totalNs: z.number(),
  p50Ns: z.number(),
  p99Ns: z.number(),
  maxNs: z.number(),
  buckets: z.array(z.object({ atMostNs: z.number(), count: z.number().int() })).readonly(),
});

export const groupStatus = z.object({
  name: z.string(),
  vmIds: z.array(uuid).readonly(),
  cutCount: z.number().int(),
  incompleteCutCount: z.number().int(),
  lastCut: groupCut.nullable(),
  pauses: pauseSummary,
});

export const exportedDisk = z.object({
  diskId: uuid,
  name: z.string(),
  sizeBytes: bytes,
  uri: z.string(),
});

export const pointExport = z.object({
  exportId: uuid,
  vmId: uuid,
  point: recoveryPoint,
  kind: z.enum(["test-failover", "failover"]),
  disks: z.array(exportedDisk),
});

export const healingReport = z.object({
  causes: z.array(z.enum(SUSPICION_CAUSES)).readonly(),
  comparedBytes: bytes,
  differingBytes: bytes,
  durationMs: milliseconds,
});

export const cycleReport = z.object({
  kind: z.enum(["initial", "cycle"]),
  cutSequence: z.number().int(),
  pointId: uuid.nullable(),
  startedAtMs: milliseconds,
  durationMs: milliseconds,
  changedBytes: bytes,
  sentBytes: bytes,
  pauseNs: z.number(),
  requestsInFlight: z.number().int(),
  lagMs: milliseconds,
  healing: healingReport.nullable(),
  group: groupCut.optional(),
});

export const relationshipError = z.object({
  code: z.string(),
  message: z.string(),
  hint: z.string().nullable(),
  retryable: z.boolean(),
  retryAtMs: milliseconds.nullable(),
});

export const relationshipStatus = z.object({
  settings: z.object({
    vmId: uuid,
    targetId: uuid,
    replicaUrl: z.string(),
    intervalMs: z.number(),
    compressionLevel: z.number(),
    group: z.string().optional(),
  }),
  state: z.enum(["ready", "initial-replication", "replicating", "suspended", "error"]),
  health: z.enum(["normal", "warning", "critical"]),
  healthReasons: z.array(z.string()),
  headPointId: uuid.nullable(),
  cycleCount: z.number().int(),
  missedCycleCount: z.number().int(),
  pendingBytes: bytes,
  suspectBytes: bytes,
  suspicionCauses: z.array(z.enum(SUSPICION_CAUSES)).readonly(),
  lastHealing: healingReport.nullable(),
  lagMs: z.number().nullable(),
  lastCycle: cycleReport.nullable(),
  lastError: relationshipError.nullable(),
  pauses: pauseSummary,
  initialProgress: z.object({ sentBytes: bytes, totalBytes: bytes }).nullable(),
});

export const vmStatus = z.object({
  vmId: uuid,
  name: z.string(),
  role: z.enum(["primary", "replica"]),
  disks: z.array(exportedDisk.extend({ uri: z.string().nullable(), path: z.string().nullable() })),
  /** On the primary. */
  relationship: relationshipStatus.nullable(),
  /** On the replica. */
  replica: z
    .object({
      head: recoveryPoint.nullable(),
      pointCount: z.number().int(),
      storedBytes: bytes,
      exports: z.array(pointExport),
    })
    .nullable(),
});

export const hostStatus = z.object({
  hostName: z.string(),
  version: z.string(),
  processId: z.number().int(),
  startedAtMs: milliseconds,
  peerAddress: z.string().nullable(),
  replicaRoot: z.string().nullable(),
  ioEngine: z.string(),
  vms: z.array(vmStatus),
});

export const problem = z.object({
  code: z.string(),
  message: z.string(),
  hint: z.string().nullable(),
  retryable: z.boolean(),
});

export const nothing = z.object({});

export type VmEnableRequest = z.infer<typeof vmEnableRequest>;
export type FailoverRequest = z.infer<typeof failoverRequest>;
export type DiskResizeRequest = z.infer<typeof diskResizeRequest>;
export type VmGroupRequest = z.infer<typeof vmGroupRequest>;
export type VmStatus = z.infer<typeof vmStatus>;
export type HostStatus = z.infer<typeof hostStatus>;
export type PointExportBody = z.infer<typeof pointExport>;
export type RecoveryPointBody = z.infer<typeof recoveryPoint>;
export type Problem = z.infer<typeof problem>;
