import { chmod, rm } from "node:fs/promises";
import { connect } from "node:net";
import { Readable } from "node:stream";
import Fastify, { type FastifyInstance, type FastifyReply } from "fastify";
import type { ZodError, z } from "zod";
import { type ErrorCode, TidemarkError, toTidemarkError } from "../model/errors.js";
import type { HostService, RouteParameters } from "./host-service.js";
import { problemOf } from "./problem-of.js";
import { EVENTS_PATH, ROUTES, type RouteName } from "./routes.js";

const HTTP_STATUS: Partial<Record<ErrorCode, number>> = {
  INVALID_ARGUMENT: 400,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  CONFLICT: 409,
  IN_USE: 409,
  NO_SPACE: 507,
  UNREACHABLE: 502,
  TIMED_OUT: 504,
};

/** Serves the management API on the host's Unix socket, for its owner alone. */
export class ApiServer implements AsyncDisposable {
  readonly socketPath: string;
  readonly #server: FastifyInstance;
  readonly #stopping = new AbortController();

  private constructor(server: FastifyInstance, socketPath: string) {
    this.#server = server;
    this.socketPath = socketPath;
  }

  /** IN_USE when another service answers there; a stale socket is replaced. */
  static async start(service: HostService, socketPath: string): Promise<ApiServer> {
    const server = Fastify({
      bodyLimit: 1 << 20,
      forceCloseConnections: true,
      // A bitmap's name of 255 bytes, percent-encoded.
      routerOptions: { maxParamLength: 3 * 255 },
    });
    const api = new ApiServer(server, socketPath);
    for (const name of Object.keys(ROUTES) as RouteName[]) registerRoute(server, service, name);
    server.get(EVENTS_PATH, (_request, reply) => sendEvents(service, reply, api.#stopping.signal));
    server.setNotFoundHandler((request, reply) =>
      sendProblem(
        reply,
        new TidemarkError("NOT_FOUND", `Cannot find ${request.method} ${request.url}.`),
      ),
    );
    server.setErrorHandler((thrown, _request, reply) => sendProblem(reply, fromFastify(thrown)));
    await removeStaleSocket(socketPath);
    await server.listen({ path: socketPath });
    await chmod(socketPath, 0o600);
    return api;
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#server.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function registerRoute<Name extends RouteName>(
  server: FastifyInstance,
  service: HostService,
  name: Name,
): void {
  const { method, path, body } = ROUTES[name];
  // Erases which route it is: the table pairs each handler with its own schemas.
  const handle = service[name].bind(service) as (
    body: unknown,
    parameters: RouteParameters,
  ) => Promise<unknown>;
  server.route({
    method,
    url: path,
    handler: async (request, reply) => {
      const given = method === "GET" ? request.query : request.body;
      const parsed = (body as z.ZodType).safeParse(given ?? {});
      if (!parsed.success) throw invalidBody(parsed.error);
      return reply.send(await handle(parsed.data, request.params as RouteParameters));
    },
  });
}

function invalidBody(error: ZodError): TidemarkError {
  const [issue] = error.issues;
  const where = issue?.path.join(".") ?? "";
  return new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot accept the request: ${where === "" ? "its body" : where}: ${issue?.message ?? "invalid"}.`,
  );
}

function fromFastify(thrown: unknown): TidemarkError {
  const statusCode = (thrown as { statusCode?: unknown }).statusCode;
  if (!(thrown instanceof TidemarkError) && typeof statusCode === "number" && statusCode < 500) {
    return new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot accept the request: ${(thrown as Error).message}.`,
    );
  }
  return toTidemarkError(thrown);
}

function sendProblem(reply: FastifyReply, error: TidemarkError): FastifyReply {
  return reply.status(HTTP_STATUS[error.code] ?? 500).send(problemOf(error));
}

function sendEvents(
  service: HostService,
  reply: FastifyReply,
  stopping: AbortSignal,
): FastifyReply {
  const closed = new AbortController();
  reply.raw.once("close", () => closed.abort());
  const events = service.events(AbortSignal.any([closed.signal, stopping]));
  async function* lines(): AsyncGenerator<string> {
    yield ": connected\n\n";
    for await (const event of events) yield `data: ${JSON.stringify(event)}\n\n`;
  }
  return reply
    .type("text/event-stream")
    .header("cache-control", "no-store")
    .send(Readable.from(lines()));
}

async function removeStaleSocket(path: string): Promise<void> {
  const isServed = await new Promise<boolean>((resolve) => {
    const probe = connect({ path });
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", () => resolve(false));
  });
  if (isServed) {
    throw new TidemarkError(
      "IN_USE",
      `Cannot serve the API at ${path}: another service answers there.`,
      {
        hint: "Stop it, or give this host another directory.",
      },
    );
  }
  await rm(path, { force: true });
}
