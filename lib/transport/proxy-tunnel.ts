import { request as httpRequest } from "node:http";
import type { Socket } from "node:net";
import { TidemarkError } from "../model/errors.js";

const TUNNEL_TIMEOUT_MS = 10_000;

/** "http://host:port"; INVALID_ARGUMENT. */
export function parseProxyUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isOrigin = url?.pathname === "/" && url.search === "" && url.username === "";
  if (url?.protocol === "http:" && isOrigin) return url;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot use ${JSON.stringify(text.slice(0, 100))} as a proxy: because it is not of the form http://HOST:PORT.`,
    {
      hint: "Give a proxy that knows CONNECT; what goes through it stays encrypted for the replica.",
    },
  );
}

/** A connection to `host:port` that the proxy made; nothing has been sent through it. */
export function openTunnel(
  proxy: URL,
  host: string,
  port: number,
  timeoutMs = TUNNEL_TIMEOUT_MS,
): Promise<Socket> {
  const bare = host.replace(/^\[|\]$/g, "");
  const authority = `${bare.includes(":") ? `[${bare}]` : bare}:${port}`;
  return new Promise((resolve, reject) => {
    const request = httpRequest({
      host: proxy.hostname.replace(/^\[|\]$/g, ""),
      port: proxy.port === "" ? 80 : Number(proxy.port),
      method: "CONNECT",
      path: authority,
      headers: { host: authority },
      agent: false,
    });
    const timer = setTimeout(() => {
      request.destroy(Object.assign(new Error("it did not answer"), { code: "ETIMEDOUT" }));
    }, timeoutMs);
    request.once("close", () => clearTimeout(timer));
    request.once("error", (cause) => reject(unreachable(proxy, cause)));
    request.once("response", ({ statusCode }) => {
      request.destroy();
      reject(refused(proxy, authority, statusCode));
    });
    request.once("connect", ({ statusCode }, socket: Socket, head: Buffer) => {
      clearTimeout(timer);
      if (statusCode === 200) {
        if (head.length > 0) socket.unshift(head);
        resolve(socket);
        return;
      }
      socket.destroy();
      reject(refused(proxy, authority, statusCode));
    });
    request.end();
  });
}

function unreachable(proxy: URL, cause: NodeJS.ErrnoException): TidemarkError {
  return new TidemarkError(
    "UNREACHABLE",
    `Cannot reach the replica: because the proxy ${proxy.origin} cannot be reached (${cause.code ?? cause.message}).`,
    { hint: "Check the proxy's address, or give another one with --proxy.", cause },
  );
}

function refused(proxy: URL, authority: string, status: number | undefined): TidemarkError {
  return new TidemarkError(
    "UNREACHABLE",
    `Cannot reach the replica: because the proxy ${proxy.origin} makes no connection to ${authority} (HTTP status ${status ?? "unknown"}).`,
    { hint: "Have the proxy permit CONNECT to that host and port." },
  );
}
