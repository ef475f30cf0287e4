import { request as httpRequest, type IncomingMessage } from "node:http";
import { isErrorCode, TidemarkError } from "../model/errors.js";
import type { ReplicationEvent } from "../model/relationship.js";
import type { RouteParameters } from "./host-service.js";
import type { RouteBodyInput, RouteName, RouteReply } from "./routes.js";

/**
 * The typed client of a host's management API; what the CLI uses. The schemas are
 * loaded by the first call: a command's help does not wait for them.
 */
export class ApiClient {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /** Throws the host's TidemarkError, or UNREACHABLE when no host answers. */
  async call<Name extends RouteName>(
    name: Name,
    body: RouteBodyInput<Name>,
    parameters: RouteParameters = {},
    signal?: AbortSignal,
  ): Promise<RouteReply<Name>> {
    const { method, path, reply } = (await import("./routes.js")).ROUTES[name];
    const query = method === "GET" ? queryOf(body) : "";
    const response = await this.#send(method, fillPath(path, parameters) + query, body, signal);
    const answer: unknown = JSON.parse(await textOf(response));
    if ((response.statusCode ?? 500) >= 400) throw await toError(answer);
    return reply.parse(answer) as RouteReply<Name>;
  }

  /** Until the signal aborts or the host stops. */
  async *events(signal?: AbortSignal): AsyncGenerator<ReplicationEvent> {
    const { EVENTS_PATH } = await import("./routes.js");
    const response = await this.#send("GET", EVENTS_PATH, undefined, signal);
    let rest = "";
    try {
      for await (const chunk of response.setEncoding("utf8") as AsyncIterable<string>) {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          if (line.startsWith("data: ")) yield JSON.parse(line.slice(6)) as ReplicationEvent;
        }
      }
    } catch (thrown) {
      if (signal?.aborted !== true) throw unreachable(this.#socketPath, thrown);
    }
  }

  #send(
    method: string,
    path: string,
    body: unknown,
    signal?: AbortSignal,
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const hasBody = method !== "GET" && body !== undefined;
      const payload = hasBody ? JSON.stringify(body) : "";
      const headers = hasBody
        ? { "content-type": "application/json", "content-length": Buffer.byteLength(payload) }
        : {};
      const outgoing = httpRequest(
        {
          socketPath: this.#socketPath,
          method,
          path,
          headers,
          ...(signal === undefined ? {} : { signal }),
        },
        resolve,
      );
      outgoing.once("error", (error) => reject(unreachable(this.#socketPath, error)));
      outgoing.end(payload);
    });
  }
}

function fillPath(path: string, parameters: RouteParameters): string {
  return path.replace(/:([a-z]+)/g, (_match, name: keyof RouteParameters) =>
    encodeURIComponent(parameters[name] ?? ""),
  );
}

/** What is undefined is left out, as in a body. */
function queryOf(body: object): string {
  const given = Object.entries(body).filter(([, value]) => value !== undefined);
  if (given.length === 0) return "";
  return `?${new URLSearchParams(given.map(([name, value]): [string, string] => [name, String(value)])).toString()}`;
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of response.setEncoding("utf8") as AsyncIterable<string>) text += chunk;
  return text;
}

async function toError(answer: unknown): Promise<TidemarkError> {
  const { problem } = await import("./schemas.js");
  const parsed = problem.safeParse(answer);
  if (!parsed.success) return new TidemarkError("INTERNAL", "Cannot understand the host's answer.");
  const { code, message, hint, retryable } = parsed.data;
  return new TidemarkError(isErrorCode(code) ? code : "INTERNAL", message, {
    retryable,
    ...(hint === null ? {} : { hint }),
  });
}

function unreachable(socketPath: string, cause: unknown): TidemarkError {
  return new TidemarkError(
    "UNREACHABLE",
    `Cannot reach the host at ${socketPath}: no service answers there.`,
    {
      hint: "Start it with `tidemark host start`, or name its directory with --dir.",
      cause,
    },
  );
}
