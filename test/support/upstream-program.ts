/** Foreign NBD servers as upstreams: on one socket each, however often they are started. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { rm } from "node:fs/promises";
import type { Teardown } from "./program.js";
import { until } from "./until.js";

const SETPRIV = existsSync("/usr/bin/setpriv") ? ["/usr/bin/setpriv", "--pdeathsig", "KILL"] : [];

export class UpstreamProgram {
  readonly uri: string;
  readonly #socketPath: string;
  readonly #command: readonly string[];
  #child: ChildProcess | null = null;
  #stderr = "";

  private constructor(socketPath: string, exportName: string, command: readonly string[]) {
    this.#socketPath = socketPath;
    this.#command = command;
    this.uri = `nbd+unix:///${exportName}?socket=${socketPath}`;
  }

  /** `command` serves `exportName` at `socketPath`, in the foreground. */
  static async start(
    t: Teardown,
    socketPath: string,
    exportName: string,
    command: readonly string[],
  ): Promise<UpstreamProgram> {
    const upstream = new UpstreamProgram(socketPath, exportName, command);
    t.teardown(() => upstream.kill());
    await upstream.start();
    return upstream;
  }

  async start(): Promise<void> {
    const [program = "", ...args] = [...SETPRIV, ...this.#command];
    const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#stderr += text));
    this.#child = child;
    await until("the upstream to answer", 20_000, async () => {
      if (child.exitCode !== null) throw new Error(`${program} ended: ${this.#stderr}`);
      return answers(this.#socketPath);
    });
  }

  /** As a crash would: what it holds in memory is lost. Its stale socket goes too. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const closed = once(child, "close");
    child.kill("SIGKILL");
    await closed;
    await rm(this.#socketPath, { force: true });
  }
}

async function answers(socketPath: string): Promise<boolean> {
  const socket = connect({ path: socketPath });
  try {
    await once(socket, "data");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** qemu-storage-daemon with one image of a format, writable, at a socket. */
export function storageDaemon(socketPath: string, imagePath: string, format: string): string[] {
  return [
    "qemu-storage-daemon",
    "--blockdev",
    `driver=file,node-name=file,filename=${imagePath},discard=unmap`,
    "--blockdev",
    `driver=${format},node-name=disk,file=file,discard=unmap`,
    "--nbd-server",
    `addr.type=unix,addr.path=${socketPath},max-connections=0`,
    "--export",
    "type=nbd,id=disk,node-name=disk,writable=on,name=disk",
  ];
}

export function nbdkit(socketPath: string, ...args: readonly string[]): string[] {
  return ["nbdkit", "--foreground", "--exit-with-parent", "-U", socketPath, ...args];
}
