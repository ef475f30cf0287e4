import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { apiSocketPath } from "#lib/cli/context.js";
import { HostPaths, writeConfiguration } from "#lib/daemon/host-configuration.js";
import { ApiClient } from "#lib/management/api-client.js";
import { issueCertificate } from "#lib/security/pki.js";
import { freePort } from "./free-port.js";
import { PLAIN_NODE } from "./plain-node.js";

const PROGRAM = fileURLToPath(new URL("../../bin/tidemark.js", import.meta.url));
const STOP_LIMIT_MS = 30_000;

/** No host outlives a test that is ended early. */
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
  process.once(signal, () => process.exit(1));
}

export interface HostSettings {
  readonly name: string;
  readonly caDirectory: string;
  readonly isReplica: boolean;
  /** What the service's command begins with, to run in a namespace. Default: nothing. */
  readonly entry?: readonly string[];
  /** Below it points are given up. Default: the host's own. */
  readonly freeSpaceFloorBytes?: number;
  /** Of the peer listener. Default 127.0.0.1. */
  readonly address?: string;
}

export interface Death {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** `tidemark host start` as a process of its own, over one directory for all its lives. */
export class HostProcess {
  readonly directory: string;
  readonly api: ApiClient;
  readonly peerPort: number;
  readonly #name: string;
  readonly #entry: readonly string[];
  readonly #address: string;
  #child: ChildProcess | null = null;
  #death: Promise<Death> = Promise.resolve({ code: 0, signal: null });
  /** What the last life said on stderr. */
  stderr = "";

  private constructor(directory: string, settings: HostSettings, peerPort: number) {
    this.directory = directory;
    this.#name = settings.name;
    this.#entry = settings.entry ?? [];
    this.#address = settings.address ?? "127.0.0.1";
    this.peerPort = peerPort;
    this.api = new ApiClient(apiSocketPath(directory));
  }

  /** Makes the host's directory; its peer port stays the same through all restarts. */
  static async create(parent: string, settings: HostSettings): Promise<HostProcess> {
    const paths = new HostPaths(join(parent, settings.name));
    await mkdir(paths.directory, { recursive: true });
    const port = await freePort();
    await writeConfiguration(paths, {
      version: 1,
      hostName: settings.name,
      peers: { host: settings.address ?? "127.0.0.1", port },
      replicaRoot: settings.isReplica ? "replica" : null,
      ...(settings.freeSpaceFloorBytes === undefined
        ? {}
        : { freeSpaceFloorBytes: settings.freeSpaceFloorBytes }),
    });
    const outputDirectory = paths.pki;
    const names = ["localhost", "127.0.0.1"];
    if (settings.address !== undefined) names.push(settings.address);
    await issueCertificate(settings.caDirectory, names, { outputDirectory });
    return new HostProcess(paths.directory, settings, port);
  }

  get peerUrl(): string {
    return `https://${this.#address}:${this.peerPort}`;
  }

  get isRunning(): boolean {
    return this.#child !== null;
  }

  /** Of the current or the last life. */
  get death(): Promise<Death> {
    return this.#death;
  }

  /** `failpoint` is "name:n"; "" for none. Resolves when ready, or dead by its failpoint. */
  async start(failpoint = ""): Promise<void> {
    this.stderr = "";
    const env = { ...process.env, TIDEMARK_FAILPOINT: failpoint };
    if (failpoint === "") Reflect.deleteProperty(env, "TIDEMARK_FAILPOINT");
    const service = [...PLAIN_NODE, PROGRAM, "--dir", this.directory, "host", "start"];
    const [command = "", ...args] = [...this.#entry, ...service];
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env });
    this.#child = child;
    running.add(child);
    this.#death = once(child, "close").then(([code, signal]) => {
      running.delete(child);
      this.#child = null;
      return { code, signal } as Death;
    });
    child.stderr.on("data", (chunk: Buffer) => {
      this.stderr += chunk.toString();
    });
    await Promise.race([isReady(child), this.#endedEarly(failpoint)]);
  }

  /** SIGKILL, at whatever moment. */
  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#death;
  }

  /** SIGSTOP: as a machine that hangs, its connections still open. */
  pause(): void {
    this.#child?.kill("SIGSTOP");
  }

  resume(): void {
    this.#child?.kill("SIGCONT");
  }

  /** SIGTERM; a host that does not end by itself is an error. */
  async stop(): Promise<void> {
    if (this.#child === null) return;
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child?.kill("SIGKILL"), STOP_LIMIT_MS);
    const { code, signal } = await this.#death;
    clearTimeout(timer);
    if (code !== 0) throw new Error(`${this.#name} ended with ${code ?? signal}: ${this.stderr}`);
  }

  async #endedEarly(failpoint: string): Promise<void> {
    const { code, signal } = await this.#death;
    if (failpoint !== "" && signal === "SIGKILL") return;
    throw new Error(`${this.#name} ended before it was ready (${code ?? signal}): ${this.stderr}`);
  }
}

function isReady(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    child.stdout?.on("data", (chunk: Buffer) => {
      if (chunk.toString().includes("is ready")) resolve();
    });
  });
}
