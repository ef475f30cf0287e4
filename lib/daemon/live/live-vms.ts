import { TidemarkError, toTidemarkError } from "../../model/errors.js";
import type { VmTracker } from "../../model/vm-tracker.js";
import type { TrackedVm } from "../../tracking/tracked-vm.js";
import type { VmDefinition } from "../open-vm-disks.js";
import type { PrimaryVms } from "../primary-vms.js";
import { tryEach } from "../served-vm.js";
import { connectVm } from "./connect-vm.js";
import { GuardedTracker } from "./guarded-tracker.js";
import { LiveVm, type LiveVmOptions } from "./live-vm.js";

export interface LiveVmsOptions {
  readonly vms: Pick<PrimaryVms, "definitions" | "find" | "servedNow">;
  readonly onNotice: (message: string) => void;
  /** Default: by the place. */
  readonly connect?: LiveVmOptions["connect"];
}

/** The VMs of this host whose hypervisor is known, each attended. */
export class LiveVms implements AsyncDisposable {
  readonly #options: LiveVmsOptions;
  readonly #attended = new Map<string, LiveVm>();

  constructor(options: LiveVmsOptions) {
    this.#options = options;
  }

  /** Attends every known one; where each stands shows later. */
  start(): void {
    for (const definition of this.#options.vms.definitions()) this.#begin(definition)?.start();
  }

  /**
   * What the VM writes is tracked when it resolves, or it does not run. When it rejects the VM
   * goes past Tidemark; or it cannot be told to, and is attended on.
   */
  async attend(vmId: string): Promise<void> {
    await this.#attended.get(vmId)?.close();
    this.#attended.delete(vmId);
    const definition = this.#options.vms.find(vmId);
    const live = definition === null ? null : this.#begin(definition);
    if (live === null) return;
    try {
      await live.settle();
    } catch (thrown) {
      await this.leave(vmId).catch((again: unknown) => {
        this.#options.onNotice(toTidemarkError(again).message);
      });
      throw thrown;
    }
    live.start();
  }

  /** The VM goes past Tidemark when it resolves, or does not run; else it is attended on. */
  async leave(vmId: string): Promise<void> {
    const live = this.#attended.get(vmId);
    if (live === undefined) return;
    try {
      await live.leave();
      this.#attended.delete(vmId);
    } catch (thrown) {
      const definition = this.#options.vms.find(vmId);
      if (definition !== null) this.#begin(definition)?.start();
      throw thrown;
    }
  }

  /** Null: nobody knows how to ask its hypervisor. */
  find(vmId: string): LiveVm | null {
    return this.#attended.get(vmId) ?? null;
  }

  /** The tracker for the engine. */
  guarded({ vmId, hypervisor, name }: VmDefinition, tracker: TrackedVm): VmTracker {
    if (hypervisor === undefined) return tracker;
    return new GuardedTracker(tracker, () => {
      const live = this.find(vmId);
      if (live !== null) return live;
      const message = `Cannot track ${name}: because nobody asks its hypervisor.`;
      throw new TidemarkError("BYPASSED", message);
    });
  }

  /** The VMs go on as they are. */
  async close(): Promise<void> {
    const all = [...this.#attended.values()];
    this.#attended.clear();
    await tryEach(all, (live) => live.close());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #begin({ vmId, name, hypervisor }: VmDefinition): LiveVm | null {
    if (hypervisor === undefined || hypervisor.isDetached === true) return null;
    const { vms, onNotice, connect = connectVm } = this.#options;
    const served = () => (vms.find(vmId)?.isWithheld === true ? null : vms.servedNow(vmId));
    const isKnown = () => vms.find(vmId)?.hypervisor !== undefined;
    const live = new LiveVm({ name, place: hypervisor, connect, served, isKnown, onNotice });
    this.#attended.set(vmId, live);
    return live;
  }
}
