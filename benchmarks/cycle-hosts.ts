import { truncate, open } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { apiSocketPath } from "#lib/cli/context.js";
import { NbdClient } from "#lib/daemon/demo/nbd-client.js";
import { HostPaths, writeConfiguration } from "#lib/daemon/host-configuration.js";
import { ApiClient } from "#lib/management/api-client.js";
import type { RouteBodyInput } from "#lib/management/routes.js";
import type { CycleReport, ReplicationEvent } from "#lib/model/relationship.js";
import { createCa, issueCertificate } from "#lib/security/pki.js";
import { BenchError } from "./bench-error.js";
import type { Scope } from "./scope.js";

const TIDEMARK = fileURLToPath(new URL("../bin/tidemark.js", import.meta.url));
const MIB = 2 ** 20;
const VM = "bench";

export interface BenchHost {
  readonly api: ApiClient;
  readonly processId: number;
}

export async function makePki(directory: string): Promise<string> {
  const ca = join(directory, "ca");
  await createCa(ca, { commonName: "Tidemark benchmark CA" });
  return ca;
}

export async function startHost(
  directory: string,
  name: string,
  ca: string,
  scope: Scope,
): Promise<BenchHost> {
  const paths = new HostPaths(join(directory, name));
  await writeConfiguration(paths, {
    version: 1,
    hostName: name,
    peers: { host: "127.0.0.1", port: 0 },
    replicaRoot: name === "replica" ? "replica" : null,
  });
  await issueCertificate(ca, ["localhost", "127.0.0.1"], { outputDirectory: paths.pki });
  const command = [process.execPath, TIDEMARK, "--dir", paths.directory, "host", "start"];
  const program = scope.start(command);
  await program.until(() => program.output.includes("is ready"));
  return { api: new ApiClient(apiSocketPath(paths.directory)), processId: program.pid };
}

/** One VM with one empty disk, replicated once: ready for a cycle of known content. */
export class ReplicatedDisk {
  readonly #primary: BenchHost;
  readonly #uri: string;
  readonly #events: AsyncGenerator<ReplicationEvent>;

  private constructor(primary: BenchHost, uri: string, events: AsyncGenerator<ReplicationEvent>) {
    this.#primary = primary;
    this.#uri = uri;
    this.#events = events;
  }

  static async enable(
    primary: BenchHost,
    replica: BenchHost,
    diskPath: string,
    sizeBytes: number,
    signal: AbortSignal,
    settings: Pick<RouteBodyInput<"vmEnable">, "skipUnchanged"> = {},
  ): Promise<ReplicatedDisk> {
    await (await open(diskPath, "wx")).close();
    await truncate(diskPath, sizeBytes);
    const { peerAddress } = await replica.api.call("hostStatus", {});
    const events = primary.api.events(signal);
    const first = events.next();
    const vm = await primary.api.call("vmEnable", {
      name: VM,
      disks: [{ path: diskPath }],
      replicaUrl: `https://${peerAddress ?? ""}`,
      intervalMs: 1000,
      ...settings,
    });
    const disk = new ReplicatedDisk(primary, vm.disks[0]?.uri ?? "", events);
    const { value } = await first;
    if (!isCycle(value, "initial")) await disk.#nextCycle("initial", 0);
    return disk;
  }

  /** As a guest would; replication is suspended, so that nothing is sent meanwhile. */
  async write(contentPath: string): Promise<void> {
    await this.#primary.api.call("vmSuspend", {}, { vm: VM });
    const client = await NbdClient.connect(this.#uri);
    const content = await open(contentPath);
    try {
      const piece = Buffer.alloc(MIB);
      for (let offset = 0; ; ) {
        const { bytesRead } = await content.read(piece, 0, MIB, offset);
        if (bytesRead === 0) break;
        await client.write(offset, Buffer.from(piece.subarray(0, bytesRead)));
        offset += bytesRead;
      }
      await client.flush();
    } finally {
      client.close();
      await content.close();
    }
  }

  /** Lets the cycle that takes all of it run; from its checkpoint to the acknowledged commit. */
  async cycle(leastBytes: number): Promise<CycleReport> {
    await this.#primary.api.call("vmResume", {}, { vm: VM });
    return this.#nextCycle("cycle", leastBytes);
  }

  async #nextCycle(kind: CycleReport["kind"], leastBytes: number): Promise<CycleReport> {
    for await (const event of { [Symbol.asyncIterator]: () => this.#withoutReturn() }) {
      if (event.type === "error") {
        throw new BenchError(`Cannot replicate: because ${event.error.message}`);
      }
      if (isCycle(event, kind) && event.report.changedBytes >= leastBytes) return event.report;
    }
    throw new BenchError("Cannot replicate: because the primary host ended.");
  }

  /** Leaving a loop must not end the stream of events. */
  #withoutReturn(): AsyncIterator<ReplicationEvent> {
    return { next: () => this.#events.next() };
  }
}

function isCycle(
  event: ReplicationEvent | undefined,
  kind: CycleReport["kind"],
): event is Extract<ReplicationEvent, { type: "cycle" }> {
  return event?.type === "cycle" && event.report.kind === kind;
}
