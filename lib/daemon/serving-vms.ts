import { closeServed, type ServedVm, tryEach } from "./served-vm.js";

/** The VMs that are served, or about to be, by id: whoever asks for one gets the same. */
export class ServingVms extends Map<string, Promise<ServedVm>> {
  /** One that fails is forgotten, unless another has come in its place. */
  note(vmId: string, serving: Promise<ServedVm>): Promise<ServedVm> {
    this.set(vmId, serving);
    serving.catch(() => {
      if (this.get(vmId) === serving) this.delete(vmId);
    });
    return serving;
  }

  /** Each is tried, the first failure is thrown; what could not be served is closed already. */
  async closeAll(): Promise<void> {
    const served = await Promise.allSettled(this.values());
    this.clear();
    const opened = served.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
    await tryEach(opened, closeServed);
  }
}
