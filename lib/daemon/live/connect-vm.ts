import { QemuHypervisor } from "../../hypervisor/qemu/qemu-hypervisor.js";
import type { HypervisorPlace, RunningVm } from "../../model/hypervisor.js";

/** UNREACHABLE when it does not run; IN_USE when another program has its monitor. */
export function connectVm(
  { monitorPath }: HypervisorPlace,
  vmName: string,
  signal: AbortSignal,
): Promise<RunningVm> {
  return new QemuHypervisor({ monitors: { [vmName]: monitorPath } }).connect(vmName, signal);
}
