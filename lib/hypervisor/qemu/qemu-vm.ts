import { TidemarkError } from "../../model/errors.js";
import type { DiskFilter, RunningVm, VmDisk, VmEvent } from "../../model/hypervisor.js";
import type { BlockMonitor } from "./block-monitor.js";
import { vmDiskOf } from "./vm-disk-of.js";
import { VmWatch } from "./vm-watch.js";

type Order = (diskName: string, filter: DiskFilter, signal: AbortSignal) => Promise<void>;

/** How a disk's way is changed; one order at a time. */
export interface FilterOrders {
  readonly insertFilter: Order;
  readonly removeFilter: Order;
}

/** A VM of QEMU, by its monitor. */
export class QemuVm implements RunningVm {
  readonly #monitor: BlockMonitor;
  readonly #orders: FilterOrders;
  readonly #watches = new Set<VmWatch>();
  #switching: Promise<void> = Promise.resolve();

  /** Takes the monitor's connection over. */
  constructor(monitor: BlockMonitor, orders: FilterOrders) {
    this.#monitor = monitor;
    this.#orders = orders;
  }

  async disks(signal: AbortSignal): Promise<readonly VmDisk[]> {
    return (await this.#monitor.devices(signal)).map(vmDiskOf);
  }

  async insertFilter(diskName: string, filter: DiskFilter, signal: AbortSignal): Promise<void> {
    await this.#inTurn(async () => {
      await this.#orders.insertFilter(diskName, filter, signal);
      for (const watch of this.#watches) watch.onInserted(diskName);
    }, signal);
  }

  async removeFilter(diskName: string, filter: DiskFilter, signal: AbortSignal): Promise<void> {
    await this.#inTurn(async () => {
      for (const watch of this.#watches) watch.onRemoving(diskName);
      let hasLeft = false;
      try {
        await this.#orders.removeFilter(diskName, filter, signal);
        hasLeft = true;
      } finally {
        for (const watch of this.#watches) watch.onRemoved(diskName, hasLeft);
      }
    }, signal);
  }

  events(signal: AbortSignal): AsyncIterable<VmEvent> {
    const watch = new VmWatch(this.#monitor, signal);
    this.#watches.add(watch);
    void watch.ended.then(() => this.#watches.delete(watch));
    return watch;
  }

  async close(): Promise<void> {
    await this.#switching;
    await this.#monitor.qmp.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** One switch at a time: QEMU would refuse the second one at any of its steps. */
  async #inTurn(work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const turn = this.#switching.then(() => {
      signal.throwIfAborted();
      return work();
    });
    this.#switching = turn.catch(() => undefined);
    await turn.catch((thrown: unknown) => {
      throw isTimeout(thrown) && !signal.aborted ? tooSlow(thrown) : thrown;
    });
  }
}

function isTimeout(thrown: unknown): boolean {
  return thrown instanceof DOMException && thrown.name === "TimeoutError";
}

function tooSlow(cause: unknown): TidemarkError {
  const message = "Cannot change the way of a VM's disk: because QEMU did not end a step in time.";
  const hint = "Check that the filter answers, and repeat it.";
  return new TidemarkError("TIMED_OUT", message, { hint, cause });
}
