import type { Hypervisor, RunningVm } from "../../model/hypervisor.js";
import { Domain } from "./domain.js";
import { DomainMonitor } from "./domain-monitor.js";
import { domainVm } from "./domain-vm.js";
import { LibvirtChannel } from "./libvirt-channel.js";
import { Virsh } from "./virsh.js";

export interface LibvirtHypervisorOptions {
  /** Default "qemu:///system". */
  readonly uri?: string;
}

/** Domains of a libvirt, reached by its program virsh. A VM's name is its domain's, a disk's its target's ("vda"). */
export class LibvirtHypervisor implements Hypervisor {
  readonly #virsh: Virsh;

  constructor(options: LibvirtHypervisorOptions = {}) {
    this.#virsh = new Virsh(options.uri ?? "qemu:///system");
  }

  /** NOT_FOUND for a domain that is not defined; UNREACHABLE when it, or libvirt, does not run. */
  async connect(vmName: string, signal: AbortSignal): Promise<RunningVm> {
    const domain = await Domain.find(this.#virsh, vmName, signal);
    const monitor = new DomainMonitor(await LibvirtChannel.open(domain, signal), domain);
    return domainVm(monitor);
  }
}
