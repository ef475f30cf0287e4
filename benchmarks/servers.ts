import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isInstalled, type Program } from "./program.js";
import type { Scope } from "./scope.js";

const TIDEMARK = fileURLToPath(new URL("../bin/tidemark.js", import.meta.url));

export interface ServerPlace {
  readonly diskPath: string;
  readonly socketPath: string;
  readonly bitmapPath: string;
}

/** A program that serves a raw disk over NBD on a Unix socket. */
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
    command: ({ diskPath, socketPath, bitmapPath }) => [
      ...track(diskPath, socketPath),
      "--bitmap",
      bitmapPath,
      ...granularity.flatMap((bytes) => ["--granularity", bytes]),
    ],
  };
}

export const UNTRACKED: ServerKind = {
  subject: "tidemark --no-tracking",
  needs: "node",
  command: ({ diskPath, socketPath }) => [...track(diskPath, socketPath), "--no-tracking"],
};

function track(diskPath: string, socketPath: string): string[] {
  return [
    process.execPath,
    TIDEMARK,
    "--json",
    "track",
    "--disk",
    diskPath,
    "--socket",
    socketPath,
  ];
}

export const PEERS: readonly ServerKind[] = [
  {
    subject: "qemu-nbd",
    needs: "qemu-nbd",
    command: ({ diskPath, socketPath }) => [
      "qemu-nbd",
      "--persistent",
      "--shared=8",
      "--format=raw",
      "--cache=writeback",
      "--socket",
      socketPath,
      diskPath,
    ],
  },
  {
    subject: "nbdkit",
    needs: "nbdkit",
    command: ({ diskPath, socketPath }) => [
      "nbdkit",
      "--foreground",
      "--exit-with-parent",
      "--unix",
      socketPath,
      "file",
      diskPath,
    ],
  },
];

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
  directory: string,
  scope: Scope,
): Promise<RunningServer> {
  const socketPath = join(directory, "nbd.sock");
  const bitmapPath = join(directory, "bitmap");
  const program = scope.start(kind.command({ diskPath, socketPath, bitmapPath }), {
    cwd: directory,
  });
  await program.until(() => answers(socketPath));
  return { program, uri: `nbd+unix:///?socket=${socketPath}` };
}

/** The greeting comes from the server without being asked for. */
async function answers(socketPath: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect({ path: socketPath });
    socket.once("error", () => resolve(false));
    socket.once("data", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("close", () => resolve(false));
  });
}
