import { connect, createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Access } from "./access.js";
import { BenchError } from "./bench-error.js";
import { nativeTool } from "./native-tool.js";
import { isInstalled, type Program } from "./program.js";
import type { Scope } from "./scope.js";

export const HOST = "127.0.0.1";
const TIDEMARK = fileURLToPath(new URL("../bin/tidemark.js", import.meta.url));

/** A Unix socket, or a port of loopback. */
export type Listen = { readonly socketPath: string } | { readonly port: number };

export interface ServerPlace {
  readonly diskPath: string;
  readonly bitmapPath: string;
  readonly listen: Listen;
  /** Past the page cache, as far as the program can (nbdkit drops pages behind itself). */
  readonly isDirect: boolean;
}

/** A program that serves a raw disk over NBD. */
export interface ServerKind {
  readonly subject: string;
  /** The program that must be installed. */
  readonly needs: string;
  command(place: ServerPlace): readonly string[];
}

export function trackedServer(granularityBytes?: number): ServerKind {
  const granularity = granularityBytes === undefined ? [] : [String(granularityBytes)];
  return {
    subject:
      granularityBytes === undefined
        ? "tidemark"
        : `tidemark ${granularityBytes / 1024}k granularity`,
    needs: "node",
    command: (place) => [
      ...track(place),
      "--bitmap",
      place.bitmapPath,
      ...granularity.flatMap((bytes) => ["--granularity", bytes]),
    ],
  };
}

/** The tracked server under the name of what its marks survive. */
export function durableServer(durability: "power-safe" | "process-safe"): ServerKind {
  const tracked = trackedServer();
  return {
    subject: durability,
    needs: tracked.needs,
    command: (place) => [...tracked.command(place), "--durability", durability],
  };
}

export const UNTRACKED: ServerKind = {
  subject: "tidemark --no-tracking",
  needs: "node",
  command: (place) => [...track(place), "--no-tracking"],
};

function track({ diskPath, listen, isDirect }: ServerPlace): string[] {
  const place =
    "port" in listen ? ["--listen", `${HOST}:${listen.port}`] : ["--socket", listen.socketPath];
  return [
    process.execPath,
    TIDEMARK,
    "--json",
    "track",
    "--disk",
    diskPath,
    ...place,
    ...(isDirect ? ["--direct"] : []),
  ];
}

export const PEERS: readonly ServerKind[] = [
  {
    subject: "qemu-nbd",
    needs: "qemu-nbd",
    command: ({ diskPath, listen, isDirect }) => [
      "qemu-nbd",
      "--persistent",
      "--shared=8",
      "--format=raw",
      ...(isDirect ? ["--cache=none", "--aio=native"] : ["--cache=writeback"]),
      ...("port" in listen
        ? [`--bind=${HOST}`, `--port=${listen.port}`]
        : ["--socket", listen.socketPath]),
      diskPath,
    ],
  },
  {
    subject: "nbdkit",
    needs: "nbdkit",
    command: ({ diskPath, listen, isDirect }) => [
      "nbdkit",
      "--foreground",
      "--exit-with-parent",
      ...("port" in listen
        ? [`--ipaddr=${HOST}`, `--port=${listen.port}`]
        : ["--unix", listen.socketPath]),
      "file",
      diskPath,
      ...(isDirect ? ["cache=none"] : []),
    ],
  },
];

/**
 * No disk behind it, and nothing done that a server could leave out: what a client can reach at
 * most. Null when its program is not built.
 */
export function serverWithoutDisk(): ServerKind | null {
  const tool = nativeTool("nbd_no_disk_tool");
  if (tool === null) return null;
  return {
    subject: "no disk",
    needs: tool,
    command: ({ listen }) => [tool, "port" in listen ? String(listen.port) : listen.socketPath],
  };
}

/**
 * Our server, untracked, as where the kernel refuses io_uring (seccomp, a sysctl). Null when its
 * program is not built.
 */
export function serverWithoutIoUring(): ServerKind | null {
  const tool = nativeTool("nbd_server_tool");
  if (tool === null) return null;
  return {
    subject: "tidemark without io_uring",
    needs: tool,
    command: ({ diskPath, listen, isDirect }) => [
      tool,
      "--without-io-uring",
      "--file",
      diskPath,
      ...("port" in listen ? ["--tcp", `${HOST}:${listen.port}`] : ["--unix", listen.socketPath]),
      ...(isDirect ? ["--direct"] : []),
    ],
  };
}

/** Splits the peers into those that are here and a line for each that is not. */
export function installedPeers(): { readonly peers: ServerKind[]; readonly skipped: string[] } {
  const peers = PEERS.filter((peer) => isInstalled(peer.needs));
  const skipped = PEERS.filter((peer) => !peers.includes(peer)).map(
    (peer) => `${peer.subject}: it is not installed`,
  );
  return { peers, skipped };
}

export interface RunningServer {
  readonly program: Program;
  readonly uri: string;
}

export async function startServer(
  kind: ServerKind,
  diskPath: string,
  access: Access,
  directory: string,
  scope: Scope,
): Promise<RunningServer> {
  const listen =
    access.transport === "tcp"
      ? { port: await freePort() }
      : { socketPath: join(directory, "nbd.sock") };
  const bitmapPath = join(directory, "bitmap");
  const isDirect = access.cache === "direct";
  const command = kind.command({ diskPath, bitmapPath, listen, isDirect });
  const program = scope.start(command, { cwd: directory });
  await program.until(() => answers(listen));
  const uri =
    "port" in listen ? `nbd://${HOST}:${listen.port}/` : `nbd+unix:///?socket=${listen.socketPath}`;
  return { program, uri };
}

/** Nobody else's at the moment; the servers cannot all say which one they took. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new BenchError("No port is free.");
  return address.port;
}

/** The greeting comes from the server without being asked for. */
async function answers(listen: Listen): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket =
      "port" in listen
        ? connect({ host: HOST, port: listen.port })
        : connect({ path: listen.socketPath });
    socket.once("error", () => resolve(false));
    socket.once("data", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("close", () => resolve(false));
  });
}
