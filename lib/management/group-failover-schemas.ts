/** Orders for all VMs of a consistency group, as they travel over the management API. */
import { z } from "zod";
import { MEMBER_OUTCOMES } from "../model/group-failover.js";
import { problem } from "./schemas.js";

const milliseconds = z.number().nonnegative();

export const groupFailoverRequest = z.strictObject({
  /** Default: the newest cut that every member has a point of. */
  cutNumber: z.number().int().nonnegative().optional(),
  /** Also while a primary of theirs seems to live; else it is refused. */
  force: z.boolean().default(false),
});

/** What a failover loses, as time. */
export const failoverLoss = z.object({
  /** Up to here the VM's writes are in its point. */
  pointAtMs: milliseconds,
  /** Up to here the replica knew of its writes. */
  lastKnownAtMs: milliseconds,
  /** What the choice of the point gave up. */
  givenUpMs: milliseconds,
  /** No more than this: from the point until the failover. */
  atMostMs: milliseconds,
});

export const groupOrderReport = z.object({
  group: z.string(),
  /** Of an unplanned failover: the cut that all go on from. */
  cut: z
    .object({
      groupId: z.uuid(),
      name: z.string(),
      cutNumber: z.number().int(),
      takenAtMs: z.number(),
    })
    .nullable(),
  members: z.array(
    z.object({
      vmId: z.uuid(),
      name: z.string(),
      outcome: z.enum(MEMBER_OUTCOMES),
      /** Of an unplanned failover that was done now. */
      loss: failoverLoss.nullable(),
      /** Why it failed. */
      error: problem.nullable(),
    }),
  ),
});

export type FailoverLossBody = z.infer<typeof failoverLoss>;
export type GroupOrderReportBody = z.infer<typeof groupOrderReport>;
