import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { CycleReport } from "#lib/model/relationship.js";
import { BenchError } from "../bench-error.js";
import { cpuSecondsOf } from "../cpu-time.js";
import { type BenchHost, makePki, startHost } from "../cycle-hosts.js";
import type { BenchContext } from "../model.js";
import type { Scope } from "../scope.js";
import { makeDirectory } from "../scratch.js";

const POLL_MS = 20;

export interface EnableOptions {
  readonly name: string;
  readonly sizeBytes: number;
  readonly intervalMs: number;
}

export interface EnabledVm {
  readonly diskPath: string;
  readonly uri: string;
}

/** A primary and a replica host on loopback, freshly made, in a directory of their own. */
export class HostPair {
  readonly primary: BenchHost;
  readonly replica: BenchHost;
  readonly directory: string;

  private constructor(primary: BenchHost, replica: BenchHost, directory: string) {
    this.primary = primary;
    this.replica = replica;
    this.directory = directory;
  }

  static async start(scope: Scope, context: BenchContext): Promise<HostPair> {
    const directory = await makeDirectory(scope, context.socketDirectory, "pair-");
    const ca = await makePki(directory);
    const replica = await startHost(directory, "replica", ca, scope);
    return new HostPair(await startHost(directory, "primary", ca, scope), replica, directory);
  }

  /** A sparse disk; `fill` writes to its file before the VM is enabled. */
  async enable(
    { name, sizeBytes, intervalMs }: EnableOptions,
    fill?: (path: string) => Promise<void>,
  ): Promise<EnabledVm> {
    const diskPath = join(this.directory, `${name}.raw`);
    const file = await open(diskPath, "wx");
    await file.truncate(sizeBytes);
    await file.close();
    await fill?.(diskPath);
    const { peerAddress } = await this.replica.api.call("hostStatus", {});
    const replicaUrl = `https://${peerAddress ?? ""}`;
    const disks = [{ path: diskPath }];
    const vm = await this.primary.api.call("vmEnable", { name, disks, replicaUrl, intervalMs });
    return { diskPath, uri: vm.disks[0]?.uri ?? "" };
  }

  /** Of the VM's cycles from now on, whole ones. */
  async *cycles(name: string, signal: AbortSignal): AsyncGenerator<CycleReport> {
    const { vmId } = await this.primary.api.call("vmStatus", {}, { vm: name });
    for await (const event of this.primary.api.events(signal)) {
      if (!("vmId" in event) || event.vmId !== vmId) continue;
      if (event.type === "error") throw new BenchError(`Cannot replicate: ${event.error.message}`);
      if (event.type === "cycle") yield event.report;
    }
  }

  /** Resolves with the status when the VM has its first recovery point. */
  async firstPoint(name: string, signal: AbortSignal) {
    for (;;) {
      const status = await this.primary.api.call("vmStatus", {}, { vm: name });
      if (status.relationship?.lastError != null) {
        throw new BenchError(`Cannot replicate: ${status.relationship.lastError.message}`);
      }
      if (status.relationship?.headPointId != null) return status.relationship;
      await sleep(POLL_MS, undefined, { signal });
    }
  }

  async cpuSeconds(): Promise<number> {
    return (
      (await cpuSecondsOf(this.primary.processId)) + (await cpuSecondsOf(this.replica.processId))
    );
  }
}
