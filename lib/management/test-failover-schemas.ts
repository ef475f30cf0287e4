/** Test failovers: how long they last, what they may take, how they stand and how they ended. */
import { z } from "zod";
import { TEST_FAILOVER_OUTCOMES } from "../model/test-failover.js";
import { pointExport, recoveryPoint } from "./schemas.js";

const LONGEST_MS = 366 * 86_400_000;
const SMALLEST_SCRATCH_BYTES = 1 << 20;

const uuid = z.uuid();
const bytes = z.number().int().nonnegative();
const time = z.number();
const milliseconds = z.number().nonnegative();
const lifeMs = z.number().int().min(1000).max(LONGEST_MS);
const scratchLimitBytes = z.number().int().min(SMALLEST_SCRATCH_BYTES).max(Number.MAX_SAFE_INTEGER);

/** What holds where the one who opens a test says nothing. */
export const testFailoverSettings = z.strictObject({
  /** Null: until it is closed. */
  forMs: lifeMs.nullable(),
  /** Null: what the floor of free space leaves. */
  scratchLimitBytes: scratchLimitBytes.nullable(),
  /** Whether want of room for recovery points ends tests, the oldest first. */
  endOnShortage: z.boolean(),
});

/** What is left out stays. */
export const testFailoverSettingsRequest = testFailoverSettings.partial();

const terms = {
  /** Null: until it is closed. Default: the host's setting. */
  forMs: lifeMs.nullable().optional(),
  /** Of all disks together; null: what the floor of free space leaves. Default: the host's setting. */
  scratchLimitBytes: scratchLimitBytes.nullable().optional(),
  /** Reads all of the point meanwhile and holds it against its checksums. */
  check: z.boolean().default(false),
};

export const testFailoverRequest = z.strictObject({
  /** Default: the newest. */
  pointId: uuid.optional(),
  ...terms,
});

export const groupTestFailoverRequest = z.strictObject({
  /** Default: the newest cut that every member has a point of. */
  cutNumber: z.number().int().nonnegative().optional(),
  ...terms,
});

/** One of the two. */
export const testFailoverProlongation = z.union([
  /** So much later than it would end. */
  z.strictObject({ byMs: lifeMs }),
  /** Null: until it is closed. */
  z.strictObject({ untilMs: time.nullable() }),
]);

const groupTest = z.object({
  testId: uuid,
  groupId: uuid,
  name: z.string(),
  cutNumber: z.number().int(),
});

const testFailoverCheck = z.object({
  state: z.enum(["running", "good", "damaged", "failed"]),
  verifiedBytes: bytes,
  durationMs: milliseconds.nullable(),
  failure: z.string().nullable(),
});

export const testFailover = pointExport.extend({
  test: z.object({
    sinceMs: time,
    untilMs: time.nullable(),
    ageMs: milliseconds,
    openingMs: milliseconds,
    scratchBytes: bytes,
    scratchLimitBytes: bytes.nullable(),
    refusedWriteCount: bytes,
    clientCount: bytes,
    group: groupTest.nullable(),
    check: testFailoverCheck.nullable(),
  }),
});

export const testFailoverReport = z.object({
  exportId: uuid,
  pointId: uuid,
  pointSequence: recoveryPoint.shape.sequence.nullable(),
  sinceMs: time,
  endedAtMs: time,
  outcome: z.enum(TEST_FAILOVER_OUTCOMES),
  scratchBytes: bytes,
  refusedWriteCount: bytes,
  check: testFailoverCheck.nullable(),
});

export const testFailoverList = z.object({
  open: z.array(testFailover),
  /** The one that ended last. */
  last: testFailoverReport.nullable(),
});

export const groupTestFailover = z.object({
  ...groupTest.shape,
  tests: z.array(testFailover),
});

export type TestFailoverBody = z.infer<typeof testFailover>;
export type TestFailoverReportBody = z.infer<typeof testFailoverReport>;
export type TestFailoverListBody = z.infer<typeof testFailoverList>;
export type GroupTestFailoverBody = z.infer<typeof groupTestFailover>;
export type TestFailoverSettingsBody = z.infer<typeof testFailoverSettings>;
