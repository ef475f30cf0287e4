/**
 * The one table of control routes: the client builds requests from it, the
 * ingest worker recognizes and checks them by it.
 *
 * A route's arguments are the path's parameters and the body's fields together.
 */
import { z } from "zod";
import * as schemas from "./peer-schemas.js";
import { MAX_ANSWER_JSON_BYTES } from "./limits.js";

export interface PeerRoute {
  readonly method: "GET" | "PUT" | "POST" | "DELETE";
  /** Below the version; ":name" stands for the argument of that name. */
  readonly path: string;
  readonly args: z.ZodType<object>;
  readonly answer: z.ZodType;
  readonly maxAnswerBytes: number;
  /** Completes "Cannot ...". */
  readonly purpose: string;
}

const MIB = 1024 * 1024;
const vmArgs = z.object({ vmId: schemas.uuid });
const vmPath = "/vms/:vmId";
const deltaPath = `${vmPath}/deltas/:deltaId`;

export const PEER_ROUTES = {
  hello: {
    method: "GET",
    path: "/hello",
    args: z.object({}),
    answer: schemas.hello,
    maxAnswerBytes: MAX_ANSWER_JSON_BYTES,
    purpose: "agree on a protocol version",
  },
  enable: {
    method: "PUT",
    path: vmPath,
    args: z
      .object({ vmId: schemas.uuid, vm: schemas.replicatedVm, generation: schemas.generation })
      .refine(({ vmId, vm }) => vmId === vm.vmId, "path and body name different VMs"),
    answer: schemas.replicaVmStatus,
    maxAnswerBytes: MAX_ANSWER_JSON_BYTES,
    purpose: "enable replication",
  },
  status: {
    method: "GET",
    path: vmPath,
    args: vmArgs,
    answer: schemas.replicaVmStatus,
    maxAnswerBytes: MAX_ANSWER_JSON_BYTES,
    purpose: "ask the replica's status",
  },
  openStaging: {
    method: "POST",
    path: `${vmPath}/staging`,
    args: z.object({ vmId: schemas.uuid, generation: schemas.generation }),
    answer: schemas.uuid,
    maxAnswerBytes: MAX_ANSWER_JSON_BYTES,
    purpose: "open a staging session",
  },
  openDelta: {
    method: "PUT",
    path: deltaPath,
    args: schemas.deltaHeader,
    answer: schemas.segmentReceipts,
    maxAnswerBytes: 256 * MIB,
    purpose: "open the delta",
  },
  commit: {
    method: "POST",
    path: `${deltaPath}/commit`,
    args: schemas.commitRequest,
    answer: schemas.recoveryPoint.nullable(),
    maxAnswerBytes: MAX_ANSWER_JSON_BYTES,
    purpose: "commit the delta",
  },
  abandon: {
    method: "DELETE",
    path: deltaPath,
    args: z.object({ vmId: schemas.uuid, deltaId: schemas.uuid }),
    answer: z.null(),
    maxAnswerBytes: MAX_ANSWER_JSON_BYTES,
    purpose: "abandon the delta",
  },
  deleteVm: {
    method: "POST",
    path: `${vmPath}/delete`,
    args: z.object({ vmId: schemas.uuid, generation: schemas.generation }),
    answer: z.null(),
    maxAnswerBytes: MAX_ANSWER_JSON_BYTES,
    purpose: "delete the replica",
  },
  succeed: {
    method: "POST",
    path: `${vmPath}/lineage`,
    args: schemas.succession,
    answer: schemas.replicaVmStatus,
    maxAnswerBytes: MAX_ANSWER_JSON_BYTES,
    purpose: "hand the VM over",
  },
  takeReturned: {
    method: "POST",
    path: `${vmPath}/return`,
    args: schemas.returnRequest.refine(
      ({ vmId, vm }) => vmId === vm.vmId,
      "path and body name different VMs",
    ),
    answer: schemas.returnedDisks,
    maxAnswerBytes: 16 * MIB,
    purpose: "reverse the replication",
  },
  points: {
    method: "GET",
    path: `${vmPath}/points`,
    args: vmArgs,
    answer: schemas.recoveryPoints,
    maxAnswerBytes: 64 * MIB,
    purpose: "list the recovery points",
  },
  blockHashes: {
    method: "POST",
    path: `${vmPath}/hashes`,
    args: schemas.blockHashRequest,
    answer: schemas.blockHashes,
    maxAnswerBytes: MAX_ANSWER_JSON_BYTES,
    purpose: "compare blocks",
  },
} as const satisfies Record<string, PeerRoute>;

export type PeerRouteName = keyof typeof PEER_ROUTES;
export type PeerArgs<N extends PeerRouteName> = z.output<(typeof PEER_ROUTES)[N]["args"]>;
export type PeerAnswer<N extends PeerRouteName> = z.output<(typeof PEER_ROUTES)[N]["answer"]>;

/** Answered in every version, so that two hosts can find out which one they share. */
export const HELLO_PATH = PEER_ROUTES.hello.path;

/** Segments do not go through the control plane: method PUT, its body a zstd stream. */
export const SEGMENT_PATH = `${deltaPath}/attempts/:attempt/segments/:segmentIndex`;
/** Takes what a segment takes, to measure the way, and keeps nothing of it. */
export const PROBE_PATH = "/probe";
export const CONTENT_BYTES_HEADER = "x-tidemark-content-bytes";
export const SHA256_TRAILER = "x-tidemark-sha256";
/** Of what the trailer is made; missing: of the record bytes. */
export const DIGEST_HEADER = "x-tidemark-digest";

/** "/v1/vms/6f.../points" from version 1, "/vms/:vmId/points" and {vmId}. */
export function buildPath(version: number, pattern: string, args: object): string {
  const values = args as Record<string, unknown>;
  const path = pattern.replace(/:([A-Za-z0-9]+)/g, (_, key: string) =>
    encodeURIComponent(String(values[key])),
  );
  return `/v${version}${path}`;
}

/** The parameters when the path (below the version) fits the pattern. */
export function matchPath(pattern: string, path: string): Record<string, string> | undefined {
  const expected = pattern.split("/");
  const actual = path.split("/");
  if (expected.length !== actual.length) return undefined;
  const parameters: Record<string, string> = {};
  for (const [index, part] of expected.entries()) {
    const text = actual[index] ?? "";
    if (part.startsWith(":")) parameters[part.slice(1)] = text;
    else if (part !== text) return undefined;
  }
  return parameters;
}
