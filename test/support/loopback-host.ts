/** Two hosts on loopback, each a process of its own, and a guest of one disk. */
import { randomBytes } from "node:crypto";
import { open, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { apiSocketPath } from "#lib/cli/context.js";
import { HostPaths, writeConfiguration } from "#lib/daemon/host-configuration.js";
import { NbdClient } from "#lib/daemon/demo/nbd-client.js";
import { ApiClient } from "#lib/management/api-client.js";
import type { RecoveryPointBody, VmStatus } from "#lib/management/schemas.js";
import { createCa, issueCertificate } from "#lib/security/pki.js";
import { freePort } from "./free-port.js";
import { RunningProgram, type StartOptions, type Teardown } from "./program.js";

export interface HostOptions {
  readonly isReplica?: boolean;
  readonly certificateNames?: readonly string[];
  readonly caDirectory: string;
  /** Default: any that is free. */
  readonly port?: number;
}

/** A host's directory, its certificate, and its process while it runs. */
export class LoopbackHost {
  readonly paths: HostPaths;
  readonly api: ApiClient;
  process: RunningProgram | null = null;
  readonly #t: Teardown;

  private constructor(t: Teardown, directory: string) {
    this.#t = t;
    this.paths = new HostPaths(directory);
    this.api = new ApiClient(apiSocketPath(this.paths.directory));
  }

  static async prepare(
    t: Teardown,
    directory: string,
    options: HostOptions,
  ): Promise<LoopbackHost> {
    const host = new LoopbackHost(t, directory);
    await writeConfiguration(host.paths, {
      version: 1,
      hostName: directory.split("/").at(-1) ?? "host",
      peers: { host: "127.0.0.1", port: options.port ?? (await freePort()) },
      replicaRoot: options.isReplica === true ? "replica" : null,
    });
    const names = options.certificateNames ?? ["localhost", "127.0.0.1"];
    await issueCertificate(options.caDirectory, names, { outputDirectory: host.paths.pki });
    return host;
  }

  /** A host that runs already, its directory seen at another path. */
  static at(t: Teardown, directory: string, process: RunningProgram | null): LoopbackHost {
    const host = new LoopbackHost(t, directory);
    host.process = process;
    return host;
  }

  async start(options: StartOptions = {}): Promise<void> {
    const args = ["--dir", this.paths.directory, "host", "start"];
    this.process = await RunningProgram.start(this.#t, args, /is ready/, options);
  }

  async stop(signal: NodeJS.Signals = "SIGTERM") {
    const outcome = await this.process?.stop(signal);
    this.process = null;
    return outcome;
  }

  /** From now on it listens where it does now. */
  async keepPort(): Promise<string> {
    const { peerAddress } = await this.api.call("hostStatus", {});
    const port = Number(peerAddress?.split(":").at(-1));
    const configuration = JSON.parse(await readFile(this.paths.configuration, "utf8")) as {
      peers: { port: number };
    };
    configuration.peers.port = port;
    await writeFile(this.paths.configuration, JSON.stringify(configuration));
    return `https://127.0.0.1:${port}`;
  }

  vm(name: string): Promise<VmStatus> {
    return this.api.call("vmStatus", {}, { vm: name });
  }
}

export interface Pair {
  readonly directory: string;
  readonly caDirectory: string;
  readonly primary: LoopbackHost;
  readonly replica: LoopbackHost;
  readonly replicaUrl: string;
}

export async function startPair(
  t: Teardown,
  directory: string,
  options: { readonly primary?: StartOptions; readonly replica?: StartOptions } = {},
): Promise<Pair> {
  const caDirectory = join(directory, "ca");
  await createCa(caDirectory);
  const replicaOptions = { caDirectory, isReplica: true };
  const replica = await LoopbackHost.prepare(t, join(directory, "r"), replicaOptions);
  const primary = await LoopbackHost.prepare(t, join(directory, "p"), { caDirectory });
  await Promise.all([replica.start(options.replica), primary.start(options.primary)]);
  const replicaUrl = await replica.keepPort();
  return { directory, caDirectory, primary, replica, replicaUrl };
}

export interface Trio extends Pair {
  readonly primaryUrl: string;
  readonly third: LoopbackHost;
  readonly thirdUrl: string;
}

/** And one more that accepts replicas. */
export async function startTrio(t: Teardown, directory: string): Promise<Trio> {
  const pair = await startPair(t, directory);
  const { caDirectory, primary } = pair;
  const options = { caDirectory, isReplica: true };
  const third = await LoopbackHost.prepare(t, join(directory, "t"), options);
  await third.start();
  const thirdUrl = await third.keepPort();
  return { ...pair, primaryUrl: await primary.keepPort(), third, thirdUrl };
}

/** A disk of the test's own making; `content` is the oracle: what the guest has had acknowledged. */
export class Guest {
  readonly name: string;
  readonly diskPath: string;
  readonly content: Buffer;
  uri = "";
  #client: NbdClient | null = null;

  private constructor(name: string, diskPath: string, content: Buffer) {
    this.name = name;
    this.diskPath = diskPath;
    this.content = content;
  }

  /** Half of it random, the rest a hole. */
  static async make(directory: string, name: string, sizeBytes = 4 << 20): Promise<Guest> {
    const diskPath = join(directory, `${name}.raw`);
    const content = Buffer.alloc(sizeBytes);
    randomBytes(sizeBytes / 2).copy(content);
    await writeFile(diskPath, content.subarray(0, sizeBytes / 2));
    await truncate(diskPath, sizeBytes);
    return new Guest(name, diskPath, content);
  }

  async enable(primary: LoopbackHost, replicaUrl: string): Promise<VmStatus> {
    const vm = await primary.api.call("vmEnable", {
      name: this.name,
      disks: [{ path: this.diskPath }],
      replicaUrl,
      intervalMs: 1000,
    });
    this.uri = vm.disks[0]?.uri ?? "";
    return vm;
  }

  async write(offsetBytes: number, data: Buffer): Promise<void> {
    this.#client ??= await NbdClient.connect(this.uri);
    await this.#client.write(offsetBytes, data);
    data.copy(this.content, offsetBytes);
  }

  async flush(): Promise<void> {
    this.#client ??= await NbdClient.connect(this.uri);
    await this.#client.flush();
  }

  disconnect(): void {
    this.#client?.close();
    this.#client = null;
  }
}

/** Waits for what must come; a test that waits in vain says for what. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | null | undefined | false>,
  limitMs = 90_000,
): Promise<T> {
  const endMs = performance.now() + limitMs;
  for (;;) {
    const found = await look();
    if (found !== null && found !== undefined && found !== false) return found;
    if (performance.now() > endMs) throw new Error(`waited in vain for ${what}`);
    await sleep(50);
  }
}

/** A recovery point whose cut is after this call. */
export async function replicated(primary: LoopbackHost, vm: string): Promise<VmStatus> {
  const sinceMs = Date.now();
  return eventually(`a cycle of ${vm}`, async () => {
    const status = await primary.vm(vm);
    const { relationship } = status;
    const last = relationship?.lastCycle;
    return relationship?.state === "replicating" && (last?.startedAtMs ?? 0) > sinceMs && status;
  });
}

export async function lastErrorOf(host: LoopbackHost, vm: string, code: RegExp | string) {
  const pattern = typeof code === "string" ? new RegExp(`^${code}$`) : code;
  return eventually(`the error ${String(code)} of ${vm}`, async () => {
    const error = (await host.vm(vm)).relationship?.lastError;
    return error !== null && error !== undefined && pattern.test(error.code) && error;
  });
}

/** What a recovery point holds, read over NBD through a test failover. */
export async function contentOfPoint(
  replica: LoopbackHost,
  vm: string,
  pointId?: string,
): Promise<Buffer> {
  const body = pointId === undefined ? {} : { pointId };
  const opened = await replica.api.call("testFailover", body, { vm });
  const client = await NbdClient.connect(opened.disks[0]?.uri ?? "");
  try {
    return Buffer.from(await client.read(0, client.sizeBytes));
  } finally {
    client.close();
    await replica.api.call("exportClose", {}, { export: opened.exportId });
  }
}

export function pointsOf(replica: LoopbackHost, vm: string): Promise<RecoveryPointBody[]> {
  return replica.api.call("pointList", {}, { vm });
}

/** Puts `bytes` of ballast into a file until the file system is full. */
export async function fillUp(path: string): Promise<void> {
  await using file = await open(path, "w");
  const ballast = Buffer.alloc(64 << 10, 1);
  for (let size = ballast.length; size >= 512; ) {
    try {
      const { bytesWritten } = await file.write(ballast, 0, size);
      if (bytesWritten < size) size = 512;
    } catch {
      size /= 2;
    }
  }
}
