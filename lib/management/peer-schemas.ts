/** Other hosts, as the management API tells of them. */
import { z } from "zod";
import { PEER_TEST_STEPS } from "../model/peer-test.js";
import { proxyUrl, replicaUrl } from "./transfer-schemas.js";

export const peerTestRequest = z.strictObject({
  url: replicaUrl,
  proxyUrl: proxyUrl.optional(),
});

export const peerTestReport = z.object({
  url: z.string(),
  proxyUrl: z.string().nullable(),
  isReady: z.boolean(),
  steps: z
    .array(
      z.object({
        step: z.enum(PEER_TEST_STEPS),
        outcome: z.enum(["ok", "warning", "failed", "not tried"]),
        code: z.string().nullable(),
        detail: z.string(),
        hint: z.string().nullable(),
      }),
    )
    .readonly(),
  hostName: z.string().nullable(),
  softwareVersion: z.string().nullable(),
  freeBytes: z.number().nullable(),
});

export const acceptReplicasRequest = z.strictObject({ accepts: z.boolean() });

export type PeerTestReportBody = z.infer<typeof peerTestReport>;
