import type { BlockDevice } from "../qemu/block-graph.js";
import { BlockMonitor } from "../qemu/block-monitor.js";
import type { MonitorChannel } from "../qemu/monitor-channel.js";
import type { Domain } from "./domain.js";

const FORMAT_NODE = /^libvirt-(\d+)-format$/;

/** The disks of a domain, by their targets ("vda") in place of their devices' ids ("virtio-disk0"). */
export class DomainMonitor extends BlockMonitor {
  readonly domain: Domain;
  readonly #targets = new Map<string, string>();

  constructor(qmp: MonitorChannel, domain: Domain) {
    super(qmp);
    this.domain = domain;
  }

  override async devices(signal: AbortSignal): Promise<readonly BlockDevice[]> {
    const devices = await super.devices(signal);
    if (!devices.every(({ name }) => this.#targets.has(name))) await this.#learn(devices, signal);
    return devices.map(({ name, root }) => ({ name: this.#targets.get(name) ?? name, root }));
  }

  async #learn(devices: readonly BlockDevice[], signal: AbortSignal): Promise<void> {
    const { targets } = await this.domain.stats(signal);
    for (const { name, root } of devices) {
      const target = targets.get(FORMAT_NODE.exec(root.nodeName)?.[1] ?? "");
      if (target !== undefined) this.#targets.set(name, target);
    }
  }
}
