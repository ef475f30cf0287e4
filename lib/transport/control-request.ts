import type { IncomingMessage } from "node:http";
import { TidemarkError } from "../model/errors.js";
import { MAX_REQUEST_JSON_BYTES, PROTOCOL_VERSIONS } from "./limits.js";
import { readText } from "./message-body.js";
import { parseRequest } from "./parse-peer.js";
import {
  HELLO_PATH,
  matchPath,
  type PeerRoute,
  PEER_ROUTES,
  type PeerRouteName,
} from "./peer-routes.js";

export interface ControlRequest {
  readonly route: PeerRouteName;
  readonly args: object;
}

/** The path below "/v1"; VERSION_UNKNOWN names what both ends speak. */
export function versionlessPath(url: string): string {
  const match = /^\/v(\d{1,6})(\/[A-Za-z0-9/_-]*)$/.exec(url);
  if (match === null) throw noSuchRoute(url);
  const [, version, path = ""] = match;
  if (path === HELLO_PATH || PROTOCOL_VERSIONS.includes(Number(version))) return path;
  throw new TidemarkError(
    "VERSION_UNKNOWN",
    `Cannot answer: because the request is in protocol version ${version} and this host knows version ${PROTOCOL_VERSIONS.join(", ")}.`,
    { hint: "Bring both hosts to the same version of Tidemark, the replica first." },
  );
}

/** Recognizes the route, reads the body, checks both. */
export async function readControlRequest(
  message: IncomingMessage,
  path: string,
  idleTimeoutMs: number,
): Promise<ControlRequest> {
  const { method = "" } = message;
  for (const route of Object.keys(PEER_ROUTES) as PeerRouteName[]) {
    const { purpose, args, ...entry }: PeerRoute = PEER_ROUTES[route];
    const parameters = entry.method === method ? matchPath(entry.path, path) : undefined;
    if (parameters === undefined) continue;
    const body = await readObject(message, idleTimeoutMs, purpose);
    return { route, args: parseRequest(args, { ...body, ...agreed(parameters, body) }, purpose) };
  }
  throw noSuchRoute(`${method} ${path}`);
}

async function readObject(
  message: IncomingMessage,
  idleTimeoutMs: number,
  purpose: string,
): Promise<Record<string, unknown>> {
  const text = await readText(message, MAX_REQUEST_JSON_BYTES, idleTimeoutMs);
  if (text === "") return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Said below, together with what is JSON but no object.
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot ${purpose}: because the request's body is not a JSON object.`,
  );
}

/** A body may repeat what the path says; it may not say otherwise. */
function agreed(
  parameters: Record<string, string>,
  body: Record<string, unknown>,
): Record<string, string> {
  for (const [key, value] of Object.entries(parameters)) {
    const repeated = Object.hasOwn(body, key) ? body[key] : value;
    if (String(repeated).toLowerCase() !== value.toLowerCase()) {
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        `Cannot answer: because the request's path and body disagree about ${key}.`,
      );
    }
  }
  return parameters;
}

function noSuchRoute(what: string): TidemarkError {
  return new TidemarkError(
    "NOT_FOUND",
    `Cannot answer ${JSON.stringify(what.slice(0, 100))}: because the replication protocol has no such request.`,
    { hint: "Management requests go to the management API, not to this port." },
  );
}
