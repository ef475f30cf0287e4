import { TidemarkError } from "../../model/errors.js";
import type { Hypervisor, RunningVm } from "../../model/hypervisor.js";
import { BlockMonitor } from "./block-monitor.js";
import { insertFilter } from "./insert-filter.js";
import { QemuVm } from "./qemu-vm.js";
import { QmpConnection } from "./qmp-connection.js";
import { removeFilter } from "./remove-filter.js";

export interface QemuHypervisorOptions {
  /** By the VM's name: the Unix socket of its QMP monitor. */
  readonly monitors: Readonly<Record<string, string>>;
}

/** VMs of QEMU processes that somebody else starts, each reached by its QMP monitor. */
export class QemuHypervisor implements Hypervisor {
  readonly #monitors: ReadonlyMap<string, string>;

  constructor(options: QemuHypervisorOptions) {
    this.#monitors = new Map(Object.entries(options.monitors));
  }

  /** NOT_FOUND for a VM whose monitor is not named; UNREACHABLE, IN_USE as of every hypervisor. */
  async connect(vmName: string, signal: AbortSignal): Promise<RunningVm> {
    const socketPath = this.#monitors.get(vmName);
    if (socketPath !== undefined) {
      const monitor = new BlockMonitor(await QmpConnection.connect(socketPath, signal));
      return new QemuVm(monitor, {
        insertFilter: (...order) => insertFilter(monitor, ...order),
        removeFilter: (...order) => removeFilter(monitor, ...order),
      });
    }
    throw new TidemarkError(
      "NOT_FOUND",
      `Cannot reach VM ${vmName}: because its QMP monitor is not known.`,
      { hint: "Name the Unix socket of its monitor (-qmp unix:PATH,server=on,wait=off)." },
    );
  }
}
