import { type Agent, request as httpsRequest } from "node:https";
import { TidemarkError } from "../model/errors.js";
import { HttpExchange, StaleConnection } from "./http-exchange.js";
import { parseAnswer } from "./parse-peer.js";
import {
  buildPath,
  type PeerAnswer,
  type PeerArgs,
  PEER_ROUTES,
  type PeerRoute,
  type PeerRouteName,
} from "./peer-routes.js";

export interface ControlCallOptions {
  readonly origin: string;
  /** Of the protocol. */
  readonly version: number;
  readonly agent: Agent;
  readonly idleTimeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/** One control call; errors of sockets and TLS are thrown as they are. */
export async function controlCall<N extends PeerRouteName>(
  name: N,
  args: PeerArgs<N>,
  options: ControlCallOptions,
): Promise<PeerAnswer<N>> {
  const route: PeerRoute = PEER_ROUTES[name];
  const answer = await attemptCall(route, args, options, "first").catch((thrown: unknown) => {
    if (thrown instanceof StaleConnection) return attemptCall(route, args, options, "last");
    throw thrown;
  });
  return parseAnswer(route.answer, answer, route.purpose) as PeerAnswer<N>;
}

async function attemptCall(
  route: PeerRoute,
  args: object,
  { origin, version, agent, idleTimeoutMs, signal }: ControlCallOptions,
  attempt: "first" | "last",
): Promise<unknown> {
  signal?.throwIfAborted();
  const hasBody = route.method === "PUT" || route.method === "POST";
  const body = hasBody ? Buffer.from(JSON.stringify(args), "utf8") : undefined;
  const request = httpsRequest(new URL(buildPath(version, route.path, args), origin), {
    method: route.method,
    agent,
    headers:
      body === undefined
        ? {}
        : { "content-type": "application/json", "content-length": body.length },
  });
  await using exchange = new HttpExchange(request, idleTimeoutMs, signal);
  request.end(body);
  try {
    return await exchange.json(route.maxAnswerBytes);
  } catch (thrown) {
    if (signal?.aborted === true) throw cancelled(route.purpose, thrown);
    if (attempt === "first" && exchange.wasStale(thrown)) throw new StaleConnection();
    throw thrown;
  }
}

function cancelled(purpose: string, cause: unknown): TidemarkError {
  return new TidemarkError("CANCELLED", `Cannot ${purpose}: because the caller stopped it.`, {
    cause,
  });
}
