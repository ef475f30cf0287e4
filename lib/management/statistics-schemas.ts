/** What replication did: counted by monitoring interval, and over time. */
import { z } from "zod";
import { relationshipStatus } from "./schemas.js";
import { testFailoverReport } from "./test-failover-schemas.js";

const count = z.number().int().nonnegative();
const bytes = z.number().nonnegative();
const milliseconds = z.number().nonnegative();
const time = z.number();

const spread = z.object({
  average: milliseconds,
  p50: milliseconds,
  p99: milliseconds,
  max: milliseconds,
});

export const intervalSummary = z.object({
  beginMs: time,
  endMs: time,
  cycleCount: count,
  missedCount: count,
  missedShare: z.number(),
  errorCount: count,
  networkErrorCount: count,
  /** Points that were to be application-consistent, and are not. */
  freezeFailureCount: count,
  changedBytes: bytes,
  changedBytesAverage: bytes,
  changedBytesMax: bytes,
  sentBytes: bytes,
  sentBytesAverage: bytes,
  sentBytesMax: bytes,
  unchangedBytes: bytes,
  compressionRatio: z.number().nullable(),
  resynchronizedBytes: bytes,
  durationMs: spread,
  lagMs: spread,
  pauseMs: spread,
  diskChangedBytes: z.record(z.string(), bytes),
});

export const vmStatistics = z.object({
  vmId: z.uuid(),
  name: z.string(),
  role: z.enum(["primary", "replica"]),
  /** Null on the replica, as everything that only the primary knows. */
  state: relationshipStatus.shape.state.nullable(),
  health: relationshipStatus.shape.health.nullable(),
  healthReasons: z.array(z.string()),
  /** Null between cycles. */
  currentTask: z.enum(["initial-replication", "resynchronizing"]).nullable(),
  /** Of the last cycle since the service's start. */
  lastCycleKind: z.enum(["initial", "cycle"]).nullable(),
  lagMs: z.number().nullable(),
  pendingBytes: bytes.nullable(),
  lastCycleAtMs: time.nullable(),
  /** The instant that the newest recovery point stands for, and until when nothing had changed. */
  lastPointTakenAtMs: time.nullable(),
  lastPointValidUntilMs: time.nullable(),
  /** The last point that is application-consistent. */
  lastApplicationPointAtMs: time.nullable(),
  /** When one last began; and the one that ended last. */
  lastTestFailoverAtMs: time.nullable(),
  lastTestFailover: testFailoverReport.nullable(),
  initialReplicationBytes: bytes.nullable(),
  current: intervalSummary.nullable(),
  previous: intervalSummary.nullable(),
});

export const historyBucket = z.object({
  atMs: time,
  spanMs: milliseconds,
  cycleCount: count,
  missedCount: count,
  errorCount: count,
  networkErrorCount: count,
  changedBytes: bytes,
  sentBytes: bytes,
  unchangedBytes: bytes.optional(),
  durationTotalMs: milliseconds,
  durationMaxMs: milliseconds,
  lagTotalMs: milliseconds,
  lagMaxMs: milliseconds,
  pauseTotalNs: z.number(),
  pauseMaxNs: z.number(),
  diskChangedBytes: z.record(z.string(), bytes),
});

export const historyRequest = z.strictObject({
  /** Epoch; default: a day ago. */
  fromMs: z.coerce.number().nonnegative().optional(),
  untilMs: z.coerce.number().nonnegative().optional(),
  /** Single cycles are kept for a day, sums of 5 minutes for a month. */
  of: z.enum(["cycles", "spans"]).default("spans"),
});

export const monitoring = z.strictObject({
  intervalMs: z.number().int().min(3_600_000).max(604_800_000),
  /** After midnight, local time. */
  startMinutes: z.number().int().min(0).max(1439),
});

/** What is left out stays. */
export const monitoringRequest = z.strictObject({
  intervalMs: monitoring.shape.intervalMs.optional(),
  startMinutes: monitoring.shape.startMinutes.optional(),
});

export type VmStatisticsBody = z.infer<typeof vmStatistics>;
export type HistoryBucketBody = z.infer<typeof historyBucket>;
