import { randomUUID } from "node:crypto";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { failpoint } from "../model/failpoint.js";
import { type Lineage, type LineageEntry, presentEntry, successorOf } from "../model/lineage.js";
import { giveAway } from "../replica/give-away.js";
import { openPointDisk } from "../replica/open-point-disk.js";
import type { OpenedPoint } from "../replica/opened-point.js";
import type { ReplicaStore } from "../replica/replica-store.js";
import { NOBODY_WATCHES } from "../replica/succession-watch.js";
import { binding, type NativeDevice, type NativeLayeredDevice } from "../tracking/binding.js";
import { FoldingVm } from "./folding-vm.js";
import type { VmDefinition, VmDiskDefinition } from "./open-vm-disks.js";
import type { PrimaryVms } from "./primary-vms.js";
import { addPromotedTarget } from "./promoted-target.js";

export interface FailoversOptions {
  readonly store: ReplicaStore;
  /** A directory for each failover: what the VM writes over its point, and the bitmaps of that. */
  readonly directory: string;
  /** Asked for when start() has been called. */
  readonly vms: () => PrimaryVms;
  /** Throws when what the VM wrote here is elsewhere too. */
  readonly refuseCancelling: (vmId: string) => void;
  /** While nothing of the VM is being replicated from here; afterwards its disks are opened anew. */
  readonly whileHalted: (vmId: string, work: () => Promise<void>) => Promise<void>;
  readonly onWarning: (message: string) => void;
}

interface PromotedVm {
  readonly entry: LineageEntry;
  readonly point: OpenedPoint;
  /** Those that are open, by disk id. */
  readonly devices: Map<string, NativeLayeredDevice>;
}

export interface Promotion {
  readonly entry: LineageEntry;
  /** On its way into plain disks; null: it may still be cancelled. */
  readonly fold: { readonly foldedBytes: number; readonly totalBytes: number } | null;
}

/** What is copied before the guest has the disk for itself for as long again. */
const FOLD_STEP_BYTES = 4 << 20;
const FOLD_RETRY_MS = 10_000;

/**
 * The VMs of this host's replicas that run here. The replica's lineage decides which
 * they are; all else follows from it, at each start and after each change of it, and may
 * be repeated.
 */
export class Failovers implements AsyncDisposable {
  readonly #options: FailoversOptions;
  readonly #opened = new Map<string, PromotedVm>();
  readonly #folding = new Map<string, FoldingVm>();
  readonly #stopping = new AbortController();
  #folds: Promise<unknown> = Promise.resolve();
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: FailoversOptions) {
    this.#options = options;
  }

  /** Before any VM's disks are opened. */
  async load(): Promise<void> {
    const { directory, onWarning } = this.#options;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    for (const name of await readdir(directory)) {
      await this.#loadFolding(this.#directoryOf(name)).catch((thrown: unknown) => {
        const { message } = toTidemarkError(thrown);
        onWarning(`A VM that was failed over to this host is not served: ${message}`);
      });
    }
  }

  async #loadFolding(directory: string): Promise<void> {
    const folding = await FoldingVm.load(directory);
    if (folding === null) return;
    const { vm, lineage } = folding;
    // Noted, and not moved yet: nothing has happened.
    if (!(await folding.hasLeftStore())) return folding.forget();
    await this.#options.store.noteGivenAway(vm, lineage);
    this.#folding.set(vm.vmId, folding);
  }

  /** Serves what was failed over; what cannot be served is said, and tried again at the next start. */
  async start(): Promise<void> {
    const { store, onWarning } = this.#options;
    const promoted = (await store.listVms()).filter(({ promotion }) => promotion !== null);
    await this.#forgetCancelled();
    for (const { vmId } of promoted) await this.#settleOrWarn(vmId);
    for (const folding of this.#folding.values()) this.#fold(folding);
    store.watchSuccessions({
      mayPromote: (vmName) => this.#options.vms().requireFree(vmName),
      succeeded: (vmId) => {
        this.#inTurn(() => this.#settleOrWarn(vmId)).catch((thrown: unknown) => {
          onWarning(toTidemarkError(thrown).message);
        });
      },
    });
  }

  /** An unplanned failover: the VM goes on from that point here, and the replica takes nothing more of its primary. */
  failOver(vmId: string, pointId: string): Promise<void> {
    return this.#inTurn(async () => {
      const { store } = this.#options;
      const present = presentEntry(store.lineage(vmId));
      const { promotion } = await this.#summary(vmId);
      if (promotion !== null) throw failedOverAlready();
      const id = randomUUID();
      const cause = "unplanned-failover";
      const to = successorOf(present.generation, id, {
        forkPointId: pointId,
        holderId: id,
        cause,
      });
      await store.succeed({ vmId, from: present.generation, to });
      await this.#settle(vmId);
    });
  }

  /** What the VM wrote here is dropped, and the host that had it before may go on with it. */
  cancel(vmId: string): Promise<void> {
    return this.#inTurn(async () => {
      const { store } = this.#options;
      if (this.#folding.has(vmId)) throw isCommitted();
      const { promotion, head } = await this.#summary(vmId);
      if (promotion === null) throw notFailedOver("cancel");
      this.#options.refuseCancelling(vmId);
      const { generation } = promotion;
      const lineage = store.lineage(vmId);
      const former = lineage.find((entry) => entry.generation.id === promotion.parentId);
      const to = successorOf(generation, randomUUID(), {
        forkPointId: head?.pointId ?? null,
        holderId: former?.holderId ?? generation.id,
        cause: "cancelled",
      });
      await this.#options.whileHalted(vmId, async () => {
        // It stops here before it may go on elsewhere.
        await this.#close(vmId);
        await store.succeed({ vmId, from: generation, to });
      });
      await rm(this.#directoryOf(generation.id), { recursive: true, force: true });
    });
  }

  /**
   * There is no going back: the replica's points are given up, and what the VM runs from
   * becomes plain disks while it runs. Durable when it resolves; the rest goes on by itself.
   */
  commit(vmId: string): Promise<void> {
    return this.#inTurn(async () => {
      const { store } = this.#options;
      if (this.#folding.has(vmId)) return;
      const { promotion } = await this.#summary(vmId);
      if (promotion === null) throw notFailedOver("complete");
      const { point, devices } = await this.#open(vmId);
      const directory = this.#directoryOf(promotion.generation.id);
      await giveAway(store, vmId, point, async (vm) => {
        const noted = await FoldingVm.note(directory, vmId, vm);
        noted.takeOver(devices);
        this.#folding.set(vmId, noted);
      }).catch((thrown: unknown) => this.#takeBack(vmId, thrown));
      this.#opened.delete(vmId);
      const folding = this.#folding.get(vmId);
      if (folding !== undefined) this.#fold(folding);
    });
  }

  /** Null: the VM was not failed over to this host. */
  async lineageOf(vmId: string): Promise<Lineage | null> {
    const folding = this.#folding.get(vmId);
    if (folding !== undefined) return folding.lineage;
    return (await this.promotionOf(vmId)) === null ? null : this.#options.store.lineage(vmId);
  }

  /** By which generation the VM runs here, and how far it is on its way into plain disks; null: it was not failed over. */
  async promotionOf(vmId: string): Promise<Promotion | null> {
    const folding = this.#folding.get(vmId);
    if (folding !== undefined) {
      const { foldedBytes, totalBytes, lineage } = folding;
      return { entry: presentEntry(lineage), fold: { foldedBytes, totalBytes } };
    }
    const summaries = await this.#options.store.listVms();
    const entry = summaries.find((each) => each.vmId === vmId)?.promotion ?? null;
    return entry === null ? null : { entry, fold: null };
  }

  /** The device of a disk, for PrimaryVms; from the recovery point that its VM goes on from. */
  async openDisk({ vmId }: VmDefinition, { diskId }: VmDiskDefinition): Promise<NativeDevice> {
    const folding = this.#folding.get(vmId);
    if (folding !== undefined) return folding.openDisk(diskId);
    const { entry, point, devices } = await this.#open(vmId);
    const index = point.disks.findIndex(({ geometry }) => geometry.diskId === diskId);
    const disk = point.disks[index];
    if (disk === undefined) {
      throw new TidemarkError(
        "NOT_FOUND",
        `Cannot open disk ${diskId}: because recovery point ${point.point.sequence} has none of that id.`,
      );
    }
    const scratch = join(this.#directoryOf(entry.generation.id), `disk-${index}`);
    const device = await openPointDisk(binding, disk, scratch);
    devices.set(diskId, device);
    return device;
  }

  /** Nothing works on the VMs' disks any more when it resolves: they may be closed. */
  async rest(): Promise<void> {
    this.#options.store.watchSuccessions(NOBODY_WATCHES);
    this.#stopping.abort();
    await this.#last.catch(() => undefined);
    await this.#folds;
  }

  /** The VMs themselves are PrimaryVms's to close, after rest() and before this. */
  async close(): Promise<void> {
    await this.rest();
    for (const { point } of this.#opened.values()) point.release();
    this.#opened.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** In the background, again and again until it is done. */
  #fold(folding: FoldingVm): void {
    const { signal } = this.#stopping;
    const work = async () => {
      while (!signal.aborted) {
        try {
          return await this.#foldOnce(folding, signal);
        } catch (thrown) {
          if (signal.aborted) return;
          const { message } = toTidemarkError(thrown);
          this.#options.onWarning(`${folding.document.name} is not on plain disks yet: ${message}`);
          await sleep(FOLD_RETRY_MS, undefined, { signal }).catch(() => undefined);
        }
      }
    };
    this.#folds = Promise.all([this.#folds, work()]);
  }

  /** Each step may be repeated; the VM's definition decides whether it is done. */
  async #foldOnce(folding: FoldingVm, signal: AbortSignal): Promise<void> {
    const vms = this.#options.vms();
    const { vmId } = folding.document;
    if (vms.find(vmId)?.isPromoted === true) {
      await vms.served(vmId);
      await folding.fold(FOLD_STEP_BYTES, signal);
      await vms.settleDisks(vmId, await folding.nameDisks(), folding.lineage);
      failpoint("disks.settled");
    }
    await folding.removeRemains();
    this.#folding.delete(vmId);
  }

  /** Of a VM that could not leave the store; one that has left it is what its note says. */
  async #takeBack(vmId: string, thrown: unknown): Promise<never> {
    const folding = this.#folding.get(vmId);
    if (folding !== undefined && !(await folding.hasLeftStore())) {
      this.#folding.delete(vmId);
      await folding.forget();
    }
    throw thrown;
  }

  async #settleOrWarn(vmId: string): Promise<void> {
    await this.#settle(vmId).catch((thrown: unknown) => {
      this.#options.onWarning(
        `VM ${vmId} was failed over to this host and is not served: ${toTidemarkError(thrown).message}`,
      );
    });
  }

  /** Serves the VM when its generation is this host's. */
  async #settle(vmId: string): Promise<void> {
    const { promotion, vm, head } = await this.#summary(vmId);
    if (promotion === null || vm === null) return;
    const { point } = await this.#open(vmId);
    const directory = this.#directoryOf(promotion.generation.id);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const disks = point.disks.map(({ geometry, basePath, isPlaceholder }, index) => ({
      diskId: geometry.diskId,
      name: geometry.name,
      path: basePath === "" ? join(directory, `disk-${index}`) : basePath,
      bitmapPath: join(directory, `disk-${index}.tidemark`),
      ...(isPlaceholder ? { isExcluded: true } : {}),
    }));
    // The generation's id, so that whoever repeats this finds the same target.
    const targetId = promotion.generation.id;
    const formerHeadId = head?.pointId;
    const definition = { vmId, name: vm.name, targetId, disks, isPromoted: true, formerHeadId };
    const { store, vms, whileHalted } = this.#options;
    if (vms().find(vmId) !== null) return;
    failpoint("promoted");
    await whileHalted(vmId, () =>
      vms().adopt(definition, (disk) => addPromotedTarget(disk, targetId, store, vmId, promotion)),
    );
  }

  async #open(vmId: string): Promise<PromotedVm> {
    const { store } = this.#options;
    const { promotion } = await this.#summary(vmId);
    const known = this.#opened.get(vmId);
    if (promotion?.forkPointId == null) throw notFailedOver("serve");
    if (known?.entry.generation.id === promotion.generation.id) return known;
    known?.point.release();
    const point = await store.openPoint(vmId, promotion.forkPointId, "lasting");
    const opened = { entry: promotion, point, devices: new Map() };
    this.#opened.set(vmId, opened);
    return opened;
  }

  async #close(vmId: string): Promise<void> {
    if (this.#options.vms().find(vmId) !== null) await this.#options.vms().remove(vmId);
    this.#opened.get(vmId)?.point.release();
    this.#opened.delete(vmId);
  }

  async #summary(vmId: string) {
    const summary = (await this.#options.store.listVms()).find((each) => each.vmId === vmId);
    if (summary !== undefined) return summary;
    throw new TidemarkError("NOT_FOUND", `Cannot find VM ${vmId}: because it has no replica here.`);
  }

  /** What a cancellation did not come to remove; never that of a VM whose lineage cannot be read. */
  async #forgetCancelled(): Promise<void> {
    const { store, directory } = this.#options;
    const names = new Set(await readdir(directory));
    for (const { vmId, vm, promotion } of await store.listVms()) {
      if (vm === null) continue;
      for (const { generation } of store.lineage(vmId)) {
        if (generation.id === promotion?.generation.id || !names.has(generation.id)) continue;
        await rm(this.#directoryOf(generation.id), { recursive: true, force: true });
      }
    }
  }

  #directoryOf(generationId: string): string {
    return join(this.#options.directory, generationId);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }
}

function failedOverAlready(): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    "Cannot fail the VM over: because it was failed over to this host already.",
    { hint: "To choose another recovery point, cancel this failover first." },
  );
}

function isCommitted(): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    "Cannot cancel the failover: because it was completed, and its recovery points are given up.",
    { hint: "To go back, reverse the replication, then fail over to the replica." },
  );
}

function notFailedOver(what: "cancel" | "complete" | "serve"): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    `Cannot ${what} ${what === "serve" ? "the VM" : "the failover"}: because the VM was not failed over to this host, or not lately.`,
    { hint: "`tidemark vm status` shows where it runs." },
  );
}
