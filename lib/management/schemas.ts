/** What travels over the management API, as zod schemas; the types are inferred from them. */
import { z } from "zod";
import { comparisonReport, verificationStatus } from "./verification-schemas.js";
import { RELATIONSHIP_STATES } from "../model/relationship.js";
import { SUSPICION_CAUSES } from "../model/suspicion.js";
import { promotion } from "./failover-schemas.js";
import { firstCopyAtEnable, firstCopyStatus } from "./first-copy-schemas.js";
import { DEFAULT_FROZEN_LIMIT_MS } from "../model/relationship-settings.js";
import * as transfers from "./transfer-schemas.js";

/** Of VMs, disks and groups. */
export const plainName = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/,
    "a name has letters, digits and . _ - only, begins with a letter or digit, and has at most 64 of them",
  );
const uuid = z.uuid();
const bytes = z.number().int().nonnegative();
const milliseconds = z.number().nonnegative();

export const diskSpecification = z.strictObject({
  path: z.string().min(1).max(4096),
  /** Default: vda, vdb, ... in order. */
  name: plainName.optional(),
  /** It is served, and not replicated. */
  isExcluded: z.boolean().optional(),
});

/** How a running VM is reached, to have it go by Tidemark. */
export const hypervisorPlace = z.strictObject({
  kind: z.literal("qemu"),
  /** The Unix socket of its QMP monitor; one that nobody else uses. */
  monitorPath: z.string().max(107).regex(/^\//, "is no absolute path"),
});

export const vmAttachRequest = z.strictObject({
  /** Default: as it was. */
  hypervisor: hypervisorPlace.optional(),
});

export const vmEnableRequest = z.strictObject({
  name: plainName,
  disks: z.array(diskSpecification).min(1).max(64),
  /** Default: whoever runs the VM gives it the exports by himself. */
  hypervisor: hypervisorPlace.optional(),
  replicaUrl: transfers.replicaUrl,
  proxyUrl: transfers.proxyUrl.optional(),
  intervalMs: transfers.intervalMs.default(5000),
  /** Sooner than the interval, as soon as something has changed. */
  isContinuous: z.boolean().default(false),
  compression: transfers.compression.default(1),
  priority: transfers.priority.default("normal"),
  throttle: transfers.throttle.nullable().default(null),
  resync: transfers.resyncPolicy.default({ mode: "automatic" }),
  /** Blocks that are rewritten with what the replica holds do not travel. */
  skipUnchanged: z.boolean().default(false),
  applicationConsistentEveryMs:
    transfers.applicationSettings.applicationConsistentEveryMs.default(null),
  freezeScript: transfers.applicationSettings.freezeScript.default(null),
  thawScript: transfers.applicationSettings.thawScript.default(null),
  frozenLimitMs: transfers.applicationSettings.frozenLimitMs.default(DEFAULT_FROZEN_LIMIT_MS),
  /** Default: now. */
  initialStartAtMs: transfers.initialStartAtMs.optional(),
  /** The consistency group that the VM is cut with; its VMs have one interval. */
  group: plainName.optional(),
  /** Default: over the network. */
  firstCopy: firstCopyAtEnable.optional(),
});

/** To the host that had the VM before. */
export const reverseRequest = vmEnableRequest.omit({
  name: true,
  disks: true,
  hypervisor: true,
  initialStartAtMs: true,
  firstCopy: true,
});

export const vmGroupRequest = z.strictObject({
  /** Null: it leaves the one it is in. */
  group: plainName.nullable(),
});

export const failoverRequest = z.strictObject({
  /** Default: the newest. */
  pointId: uuid.optional(),
  /** Also while the primary seems to live; else it is refused. */
  force: z.boolean().default(false),
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
  /** Not replicated: an empty disk of its size. */
  isPlaceholder: z.boolean(),
});

export const pointExport = z.object({
  exportId: uuid,
  vmId: uuid,
  point: recoveryPoint,
  kind: z.enum(["test-failover", "read-only"]),
  disks: z.array(exportedDisk),
  /** Disks that the VM has now and did not have at the point. */
  absentDisks: z.array(z.object({ diskId: uuid, name: z.string() })).readonly(),
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
  consistency: z.enum(["crash", "application"]),
  pointId: uuid.nullable(),
  startedAtMs: milliseconds,
  durationMs: milliseconds,
  changedBytes: bytes,
  diskChangedBytes: z.record(z.string(), bytes).optional(),
  sentBytes: bytes,
  /** Of what changed: what did not travel because the replica was known to hold it. */
  unchangedBytes: bytes,
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
    /** Of one of the VM's further targets. */
    targetName: z.string().optional(),
    replicaUrl: z.string(),
    intervalMs: z.number(),
    proxyUrl: z.string().optional(),
    isContinuous: z.boolean(),
    compression: transfers.compression,
    priority: transfers.priority,
    throttle: transfers.throttle.nullable(),
    resync: transfers.resyncPolicy,
    skipUnchanged: z.boolean(),
    ...transfers.applicationSettings,
    group: z.string().optional(),
  }),
  state: z.enum(RELATIONSHIP_STATES),
  health: z.enum(["normal", "warning", "critical"]),
  healthReasons: z.array(z.string()),
  headPointId: uuid.nullable(),
  cycleCount: z.number().int(),
  missedCycleCount: z.number().int(),
  pendingBytes: bytes,
  suspectBytes: bytes,
  suspicionCauses: z.array(z.enum(SUSPICION_CAUSES)).readonly(),
  lastHealing: healingReport.nullable(),
  comparison: comparisonReport.nullable(),
  lagMs: z.number().nullable(),
  lastCycle: cycleReport.nullable(),
  lastError: relationshipError.nullable(),
  applicationConsistency: z
    .object({
      lastPointAtMs: milliseconds.nullable(),
      lastError: relationshipError.nullable(),
      thaw: z.object({ sinceMs: milliseconds, error: relationshipError }).nullable(),
    })
    .nullable(),
  pauses: pauseSummary,
  firstCopy: firstCopyStatus.nullable(),
  waitsUntilMs: milliseconds.nullable(),
  initialProgress: z
    .object({
      sentBytes: bytes,
      totalBytes: bytes,
      bytesPerSecond: z.number().nonnegative().nullable(),
      remainingMs: milliseconds.nullable(),
    })
    .nullable(),
});

export const vmStatus = z.object({
  vmId: uuid,
  name: z.string(),
  role: z.enum(["primary", "replica"]),
  disks: z.array(
    exportedDisk.omit({ isPlaceholder: true }).extend({
      uri: z.string().nullable(),
      path: z.string().nullable(),
      /** Not replicated; recovery points have an empty disk of its size. */
      isExcluded: z.boolean(),
    }),
  ),
  /**
   * On the primary: to the VM's first target, or to the one that was asked for as "VM@TARGET".
   * On a replica that is extended: to the third host.
   */
  relationship: relationshipStatus.nullable(),
  /** On the primary: the VM's further targets. */
  targets: z.array(z.object({ name: z.string(), relationship: relationshipStatus })),
  /** On the primary, where it is the host of the replica that was failed over to. */
  promotion: promotion.nullable(),
  /** On the primary: how its hypervisor is reached, and where it stands; null: nobody named it. */
  hypervisor: hypervisorPlace
    .extend({
      /**
       * tracked: it runs, and all that it writes is marked; bypassed: it may write past Tidemark,
       * and nothing is replicated; detached: likewise, by order; off: it does not run.
       */
      state: z.enum(["starting", "off", "tracked", "bypassed", "detached"]),
      /** Why it is bypassed. */
      reason: z.string().nullable(),
    })
    .nullable(),
  /** On the replica. */
  replica: z
    .object({
      head: recoveryPoint.nullable(),
      pointCount: z.number().int(),
      storedBytes: bytes,
      /** What its administrator should see to. */
      warnings: z.array(z.string()),
      exports: z.array(pointExport),
      /** Null while nothing of it can be read. */
      verification: verificationStatus.nullable(),
    })
    .nullable(),
});

export const hostStatus = z.object({
  hostName: z.string(),
  version: z.string(),
  processId: z.number().int(),
  startedAtMs: milliseconds,
  /** Null: it does not listen for peers. */
  peerAddress: z.string().nullable(),
  acceptsReplicas: z.boolean(),
  replicaRoot: z.string(),
  /** Null: it is not in maintenance. */
  maintenanceSinceMs: milliseconds.nullable(),
  ioEngine: z.string(),
  vms: z.array(vmStatus),
});

export const problem = z.object({
  code: z.string(),
  message: z.string(),
  hint: z.string().nullable(),
  retryable: z.boolean(),
});

export type DiskSpecification = z.infer<typeof diskSpecification>;
export type VmEnableRequest = z.infer<typeof vmEnableRequest>;
export type ReverseRequest = z.infer<typeof reverseRequest>;
export type FailoverRequest = z.infer<typeof failoverRequest>;
export type DiskResizeRequest = z.infer<typeof diskResizeRequest>;
export type VmGroupRequest = z.infer<typeof vmGroupRequest>;
export type VmStatus = z.infer<typeof vmStatus>;
export type HostStatus = z.infer<typeof hostStatus>;
export type PointExportBody = z.infer<typeof pointExport>;
export type RecoveryPointBody = z.infer<typeof recoveryPoint>;
export type Problem = z.infer<typeof problem>;
