import type { RunningVm } from "../../model/hypervisor.js";
import { QemuVm } from "../qemu/qemu-vm.js";
import type { DomainMonitor } from "./domain-monitor.js";
import { insertDomainFilter } from "./insert-domain-filter.js";
import { removeDomainFilter } from "./remove-domain-filter.js";

/** A running domain, by its QEMU's monitor. */
export function domainVm(monitor: DomainMonitor): RunningVm {
  return new QemuVm(monitor, {
    insertFilter: (...order) => insertDomainFilter(monitor, ...order),
    removeFilter: (...order) => removeDomainFilter(monitor, ...order),
  });
}
