import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { Lineage } from "../model/lineage.js";
import type { StateStore } from "../model/state-store.js";
import type { DiskSpecification } from "../management/schemas.js";
import { NbdServer } from "../tracking/nbd-server.js";
import type { Durability } from "../model/durability.js";
import type { TrackedDisk } from "../tracking/tracked-disk.js";
import type { ResizeOptions } from "../tracking/tracked-disk-options.js";
import { type CaptureBudget, TrackedVm } from "../tracking/tracked-vm.js";
import { MapSequences } from "./map-sequences.js";
import { requireSocketPath } from "./require-socket-path.js";
import { addExports, closeServed, removeExports, type ServedVm } from "./served-vm.js";
import { ServingVms } from "./serving-vms.js";
import { VmBitmaps } from "./vm-bitmaps.js";
import {
  definitionOf,
  dropTarget,
  findDisk,
  freeDiskName,
  newDefinition,
  type NewVm,
  refuseRemoval,
  requireAttached,
  requireDistinct,
  requireReplicated,
  requireServed,
} from "./vm-disk-rules.js";
import { watchDurability } from "./watch-durability.js";
import { refuseSharedDisks } from "./refuse-shared-disks.js";
import {
  openAll,
  openNewDisk,
  openVmDisks,
  type OpenVmDisksOptions,
  type VmDefinition,
} from "./open-vm-disks.js";

const VM_PREFIX = "vms/";

export interface PrimaryVmsOptions {
  readonly store: StateStore;
  readonly socketDirectory: string;
  readonly spillDirectory: string;
  /** Holds the bitmaps of disks that are NBD exports. */
  readonly bitmapDirectory: string;
  readonly durability: Durability;
  readonly capture: { readonly memoryBytes: number; readonly spillBytes: number };
  readonly onNotice: (message: string) => void;
  readonly openPromoted: OpenVmDisksOptions["openPromoted"];
}

/** The VMs that this host is the primary of: their definitions, disks and NBD exports. */
export class PrimaryVms {
  readonly #options: PrimaryVmsOptions;
  readonly #maps: MapSequences;
  readonly #definitions = new Map<string, VmDefinition>();
  readonly #served = new ServingVms();

  constructor(options: PrimaryVmsOptions) {
    this.#options = options;
    this.#maps = new MapSequences(options.store, options.onNotice);
  }

  /** Serves every known VM; one that cannot be served is reported and tried again when asked for. */
  async start(): Promise<void> {
    await mkdir(this.#options.socketDirectory, { recursive: true, mode: 0o700 });
    await mkdir(this.#options.spillDirectory, { recursive: true, mode: 0o700 });
    await mkdir(this.#options.bitmapDirectory, { recursive: true, mode: 0o700 });
    for (const document of await this.#options.store.list(VM_PREFIX)) {
      const definition = document.value as VmDefinition;
      this.#definitions.set(definition.vmId, definition);
      await this.served(definition.vmId).catch((thrown: unknown) => {
        this.#options.onNotice(`VM ${definition.name} is not served: ${String(thrown)}`);
      });
    }
  }

  definitions(): readonly VmDefinition[] {
    return [...this.#definitions.values()];
  }

  find(idOrName: string): VmDefinition | null {
    const byName = (vm: VmDefinition) => vm.name === idOrName || vm.vmId === idOrName;
    return this.definitions().find(byName) ?? null;
  }

  /** Opens and serves the VM unless it is. */
  async served(vmId: string): Promise<ServedVm> {
    return this.#served.get(vmId) ?? this.#served.note(vmId, this.#openKnown(vmId));
  }

  /** Null while its disks are not open, or about to be. */
  servedNow(vmId: string): Promise<ServedVm> | null {
    return this.#served.get(vmId) ?? null;
  }

  /** Throws why add() would refuse it; its disks are not opened for that. */
  async requireAddable({ name, disks }: NewVm): Promise<void> {
    this.requireFree(name);
    const paths = disks.map(({ path }) => path);
    await refuseSharedDisks(name, paths, this.definitions());
  }

  /** Opens, serves and durably notes a new VM. */
  async add(request: NewVm): Promise<ServedVm> {
    await this.requireAddable(request);
    const open = ({ path }: DiskSpecification) => openNewDisk(path, request, this.#options);
    const disks = await openAll(request.disks, open);
    const definition = newDefinition(request, disks);
    let served: ServedVm | null = null;
    try {
      requireDistinct(definition);
      requireReplicated(definition, definition.disks[0]?.name ?? "");
      served = await this.#serve(definition, disks);
      await this.#options.store.put(VM_PREFIX + definition.vmId, definition, 0);
    } catch (thrown) {
      served?.watch[Symbol.dispose]();
      await served?.mapWatch[Symbol.asyncDispose]();
      await served?.server.close();
      for (const disk of disks) await disk.close();
      throw thrown;
    }
    this.#definitions.set(definition.vmId, definition);
    this.#served.set(definition.vmId, Promise.resolve(served));
    return served;
  }

  /** Resizes the disk of that name or id under its running guest. */
  async resizeDisk(
    vmId: string,
    nameOrId: string,
    sizeBytes: number,
    { reconnectClients, dropsData }: ResizeOptions,
  ): Promise<void> {
    const { definition, disks, server } = await this.served(vmId);
    const found = findDisk(definition, nameOrId);
    const disk = disks[definition.disks.indexOf(found)];
    await disk?.resize(sizeBytes, { dropsData: dropsData ?? false });
    if (reconnectClients === true) server.reconnectClients(found.name);
  }

  /** Opens and serves another disk of the VM, and durably notes it. */
  async addDisk(vmId: string, request: DiskSpecification): Promise<void> {
    const served = await this.served(vmId);
    const definition = this.#definition(vmId);
    requireServed(definition);
    await refuseSharedDisks(definition.name, [request.path], this.definitions());
    const disk = await openNewDisk(request.path, definition, this.#options);
    const name = request.name ?? freeDiskName(definition);
    const changed = {
      ...definition,
      disks: [...definition.disks, definitionOf(disk, name, request)],
    };
    try {
      requireDistinct(changed);
      await dropTarget(disk, definition.targetId);
      served.server.addExport(name, disk.native, { description: `${definition.name}/${name}` });
      await this.#note(changed).catch(async (thrown: unknown) => {
        await served.server.removeExport(name);
        throw thrown;
      });
    } catch (thrown) {
      await disk.close();
      throw thrown;
    }
    await this.#become(served, changed, [...served.disks, disk]);
  }

  /** Ends the disk's export; its file and its bitmap stay. IN_USE while somebody has it open. */
  async removeDisk(
    vmId: string,
    nameOrId: string,
    { force }: { readonly force: boolean },
  ): Promise<void> {
    const definition = this.#definition(vmId);
    const removed = findDisk(definition, nameOrId);
    const changed = { ...definition, disks: definition.disks.filter((one) => one !== removed) };
    requireReplicated(changed, removed.name);
    // A disk that cannot be opened any more must not keep itself from being removed.
    const served = await this.served(vmId).catch(() => null);
    if (served !== null) refuseRemoval(served, removed.name, force);
    await this.#note(changed);
    if (served === null) return;
    const index = definition.disks.indexOf(removed);
    const remaining = served.disks.filter((_, at) => at !== index);
    await this.#become(served, changed, remaining);
    await this.#release(served, removed.name, served.disks[index]);
  }

  /** An excluded disk is served and not replicated. */
  async excludeDisk(vmId: string, nameOrId: string, isExcluded: boolean): Promise<void> {
    const definition = this.#definition(vmId);
    const disk = findDisk(definition, nameOrId);
    if ((disk.isExcluded ?? false) === isExcluded) return;
    const index = definition.disks.indexOf(disk);
    const changed = { ...definition, disks: definition.disks.with(index, { ...disk, isExcluded }) };
    requireReplicated(changed, disk.name);
    const served = await this.served(vmId);
    const opened = served.disks[index];
    if (!isExcluded && opened !== undefined) await dropTarget(opened, definition.targetId);
    await this.#note(changed);
    await this.#become(served, changed, served.disks);
    if (isExcluded && opened !== undefined) await dropTarget(opened, definition.targetId);
  }

  /** A VM that was failed over to this host, with `prepare` before anybody writes to it. Idempotent. */
  async adopt(
    definition: VmDefinition,
    prepare: (disk: TrackedDisk) => Promise<void>,
  ): Promise<void> {
    const { vmId, name } = definition;
    if (this.#definitions.has(vmId)) return;
    this.requireFree(name);
    // Who asks for the VM meanwhile gets this, and does not open its disks beside it.
    const note = () => this.#note(definition);
    await this.#served.note(vmId, this.#open(definition, prepare, note));
  }

  /** Throws why no VM of that name can be served. */
  requireFree(name: string): void {
    requireSocketPath(this.#socketPath(name));
    if (this.find(name) === null) return;
    throw new TidemarkError(
      "ALREADY_EXISTS",
      `Cannot serve ${name}: because this host has a VM of that name.`,
      { hint: "Remove its replication first, or choose another name." },
    );
  }

  /** Lets guests reach the VM's disks, or keeps them from it; durable and done when it resolves. Idempotent. */
  async setServed(vmId: string, isServed: boolean): Promise<void> {
    const definition = this.#definition(vmId);
    if ((definition.isWithheld ?? false) === isServed) {
      await this.#note({ ...definition, isWithheld: !isServed });
    }
    // Disks that cannot be opened reach nobody.
    const served = await this.served(vmId).catch(() => null);
    if (served === null) return;
    if (isServed) addExports(served);
    else await removeExports(served);
    await this.#become(served, this.#definition(vmId), served.disks);
  }

  /** Durable when it resolves; disks that are open stay as they are. */
  async setHypervisor(vmId: string, hypervisor: VmDefinition["hypervisor"]): Promise<void> {
    await this.#note({ ...this.#definition(vmId), hypervisor });
  }

  /** Durable when it resolves. */
  async noteReversed(vmId: string): Promise<void> {
    await this.#note({ ...this.#definition(vmId), wasReversed: true });
  }

  /** What the VM was failed over to is plain disks by now: they are opened as such from the next start on. */
  async settleDisks(
    vmId: string,
    paths: ReadonlyMap<string, string>,
    lineage: Lineage,
  ): Promise<void> {
    const { isPromoted: _, ...definition } = this.#definition(vmId);
    const disks = definition.disks.map((disk) => ({
      ...disk,
      path: paths.get(disk.diskId) ?? disk.path,
    }));
    await this.#note({ ...definition, disks, lineage });
  }

  /** Closes the VM's disks until somebody asks for them again; its definition stays. */
  async letGo(vmId: string): Promise<void> {
    const served = await this.#served.get(vmId)?.catch(() => undefined);
    this.#served.delete(vmId);
    if (served !== undefined) await closeServed(served);
  }

  /** Forgets the VM and ends its exports; its disks and bitmaps stay. */
  async remove(vmId: string): Promise<void> {
    const served = await this.#served.get(vmId);
    await this.#options.store.delete(VM_PREFIX + vmId);
    this.#definitions.delete(vmId);
    this.#served.delete(vmId);
    if (served === undefined) return;
    await closeServed(served);
    for (const { diskId } of served.disks) await this.#maps.forget(diskId);
  }

  /** Ends all exports, and marks the bitmaps clean. */
  async close(): Promise<void> {
    await this.#served.closeAll();
  }

  async #openKnown(vmId: string): Promise<ServedVm> {
    const definition = this.#definition(vmId);
    requireAttached(definition);
    return this.#open(definition, (disk) => this.#maps.check(disk));
  }

  /** All of its disks prepared, and the VM noted, before it is served; else none stays open. */
  async #open(
    definition: VmDefinition,
    prepare: (disk: TrackedDisk) => Promise<void>,
    note = async () => {},
  ): Promise<ServedVm> {
    const disks = await openVmDisks(definition, this.#options);
    try {
      for (const disk of disks) await prepare(disk);
      await note();
      return await this.#serve(definition, disks);
    } catch (thrown) {
      for (const disk of disks) await disk.close();
      throw thrown;
    }
  }

  async #serve(definition: VmDefinition, disks: readonly TrackedDisk[]): Promise<ServedVm> {
    const socketPath = this.#socketPath(definition.name);
    requireSocketPath(socketPath);
    const server = await NbdServer.start({ socketPath, acceptsAtOnce: false });
    try {
      if (definition.isWithheld !== true) addExports({ definition, disks, server });
      server.accept();
    } catch (thrown) {
      await server.close();
      throw thrown;
    }
    const budget = this.#captureBudget(definition);
    const bitmaps = new VmBitmaps(definition, disks, server, budget);
    return this.#watched({ definition, disks, server, bitmaps });
  }

  #watched(parts: Pick<ServedVm, "definition" | "disks" | "server" | "bitmaps">): ServedVm {
    const { definition, disks } = parts;
    const isReplicated = (_: unknown, index: number) =>
      definition.disks[index]?.isExcluded !== true;
    const names = definition.disks.filter(isReplicated).map((disk) => disk.name);
    const budget = this.#captureBudget(definition);
    return {
      ...parts,
      tracker: new TrackedVm(disks.filter(isReplicated), names, budget),
      watch: watchDurability(disks, this.#options.onNotice),
      mapWatch: this.#maps.watch(disks),
    };
  }

  #definition(vmId: string): VmDefinition {
    const definition = this.#definitions.get(vmId);
    if (definition !== undefined) return definition;
    throw new TidemarkError("NOT_FOUND", `Cannot find VM ${vmId} on this host.`);
  }

  /** Durable when it resolves: what follows may be repeated, or is done by the next start. */
  async #note(changed: VmDefinition): Promise<void> {
    const key = VM_PREFIX + changed.vmId;
    const document = await this.#options.store.get(key);
    await this.#options.store.put(key, changed, document?.version ?? 0);
    this.#definitions.set(changed.vmId, changed);
  }

  /** The VM has these disks from now on, all of them open; its exports are the caller's matter. */
  async #become(
    served: ServedVm,
    definition: VmDefinition,
    disks: readonly TrackedDisk[],
  ): Promise<void> {
    const { server, bitmaps, watch, mapWatch } = served;
    watch[Symbol.dispose]();
    await mapWatch[Symbol.asyncDispose]();
    bitmaps.changeDisks(definition, disks);
    const changed = this.#watched({ definition, disks, server, bitmaps });
    this.#served.set(definition.vmId, Promise.resolve(changed));
  }

  /** It is the VM's no more, whatever fails here. */
  async #release(
    { server, definition }: ServedVm,
    name: string,
    disk: TrackedDisk | undefined,
  ): Promise<void> {
    try {
      await server.removeExport(name);
      if (disk === undefined) return;
      await dropTarget(disk, definition.targetId);
      await disk.close();
      await this.#maps.forget(disk.diskId);
    } catch (thrown) {
      const { message } = toTidemarkError(thrown);
      this.#options.onNotice(`Disk ${name} of ${definition.name} is not let go of yet: ${message}`);
    }
  }

  #socketPath(vmName: string): string {
    return join(this.#options.socketDirectory, `${vmName}.sock`);
  }

  #captureBudget(definition: VmDefinition): CaptureBudget {
    const { capture, spillDirectory } = this.#options;
    return { ...capture, spillPath: join(spillDirectory, definition.vmId) };
  }
}
