import { z } from "zod";
import { TidemarkError } from "../../model/errors.js";
import { type BlockDevice, blockDevicesOf, type BlockNode, blockNodesOf } from "./block-graph.js";
import type { MonitorChannel } from "./monitor-channel.js";

const JOBS = z.array(
  z.object({ id: z.string(), status: z.string(), error: z.string().optional() }),
);

export type BlockJob = z.infer<typeof JOBS>[number];

/** What QEMU says of a VM's disks, understood. */
export class BlockMonitor {
  readonly qmp: MonitorChannel;

  constructor(qmp: MonitorChannel) {
    this.qmp = qmp;
  }

  async devices(signal: AbortSignal): Promise<readonly BlockDevice[]> {
    return blockDevicesOf(await this.qmp.execute("query-block", {}, signal));
  }

  async nodes(signal: AbortSignal): Promise<readonly BlockNode[]> {
    // Not flat, each node tells of all that is below it.
    return blockNodesOf(await this.qmp.execute("query-named-block-nodes", { flat: true }, signal));
  }

  async node(name: string, signal: AbortSignal): Promise<BlockNode | null> {
    return (await this.nodes(signal)).find(({ nodeName }) => nodeName === name) ?? null;
  }

  async job(id: string, signal: AbortSignal): Promise<BlockJob | null> {
    const jobs = JOBS.parse(await this.qmp.execute("query-jobs", {}, signal));
    return jobs.find((job) => job.id === id) ?? null;
  }

  /** NOT_FOUND when the VM has no such disk, or no medium is in it. */
  async device(name: string, signal: AbortSignal): Promise<BlockDevice> {
    const devices = await this.devices(signal);
    const found = devices.filter((device) => device.name === name);
    const [device] = found;
    if (device !== undefined && found.length === 1) return device;
    const names = devices.map((other) => other.name).join(", ");
    throw device === undefined
      ? new TidemarkError("NOT_FOUND", `Cannot find disk ${name} of the VM.`, {
          hint: `Name one that it has: ${names}.`,
        })
      : new TidemarkError("CONFLICT", `Cannot tell which disk is ${name}: because two have it.`, {
          hint: "Give the VM's devices ids (-device ...,id=NAME).",
        });
  }
}
