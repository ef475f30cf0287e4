import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { TidemarkError } from "../model/errors.js";
import type { StateStore } from "../model/state-store.js";
import type { VmEnableRequest } from "../management/schemas.js";
import { NbdServer } from "../tracking/nbd-server.js";
import { closeServer } from "../tracking/close-server.js";
import type { Durability } from "../model/durability.js";
import type { TrackedDisk } from "../tracking/tracked-disk.js";
import type { ResizeOptions } from "../tracking/tracked-disk-options.js";
import { type CaptureBudget, TrackedVm } from "../tracking/tracked-vm.js";
import { MapSequences } from "./map-sequences.js";
import { VmBitmaps } from "./vm-bitmaps.js";
import { watchDurability } from "./watch-durability.js";
import { openAll, openNewDisk, openVmDisks, type VmDefinition } from "./open-vm-disks.js";

const VM_PREFIX = "vms/";
const MAX_SOCKET_PATH_BYTES = 107;

/** A VM of this host as primary, its disks open and served. */
export interface ServedVm {
  readonly definition: VmDefinition;
  readonly disks: readonly TrackedDisk[];
  readonly server: NbdServer;
  readonly tracker: TrackedVm;
  readonly bitmaps: VmBitmaps;
  readonly watch: Disposable;
  readonly mapWatch: AsyncDisposable;
}

export interface PrimaryVmsOptions {
  readonly store: StateStore;
  readonly socketDirectory: string;
  readonly spillDirectory: string;
  /** Holds the bitmaps of disks that are NBD exports. */
  readonly bitmapDirectory: string;
  readonly durability: Durability;
  readonly capture: { readonly memoryBytes: number; readonly spillBytes: number };
  readonly onNotice: (message: string) => void;
}

/** The VMs that this host is the primary of: their definitions, disks and NBD exports. */
export class PrimaryVms {
  readonly #options: PrimaryVmsOptions;
  readonly #maps: MapSequences;
  readonly #definitions = new Map<string, VmDefinition>();
  readonly #served = new Map<string, Promise<ServedVm>>();

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
    const known = this.#served.get(vmId);
    if (known !== undefined) return known;
    const serving = this.#openKnown(vmId);
    this.#served.set(vmId, serving);
    serving.catch(() => this.#served.delete(vmId));
    return serving;
  }

  /** Opens, serves and durably notes a new VM. */
  async add(request: VmEnableRequest): Promise<ServedVm> {
    if (this.find(request.name) !== null) {
      throw new TidemarkError(
        "ALREADY_EXISTS",
        `Cannot enable ${request.name}: because this host has a VM of that name.`,
        {
          hint: "Remove its replication first, or choose another name.",
        },
      );
    }
    const disks = await openAll(request.disks, ({ path }) =>
      openNewDisk(path, this.#options.bitmapDirectory, this.#options.durability),
    );
    const definition: VmDefinition = {
      vmId: randomUUID(),
      targetId: randomUUID(),
      name: request.name,
      disks: disks.map((disk, index) => ({
        diskId: disk.diskId,
        name: request.disks[index]?.name ?? diskName(index),
        path: disk.path,
        bitmapPath: disk.bitmapPath,
      })),
    };
    let served: ServedVm | null = null;
    try {
      requireDistinct(definition);
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
    { vmId, name, disks }: VmDefinition,
    nameOrId: string,
    sizeBytes: number,
    { reconnectClients, dropsData }: ResizeOptions,
  ): Promise<void> {
    const index = disks.findIndex((disk) => disk.name === nameOrId || disk.diskId === nameOrId);
    const served = await this.served(vmId);
    const disk = served.disks[index];
    if (disk === undefined) {
      throw new TidemarkError("NOT_FOUND", `Cannot find disk ${nameOrId} of VM ${name}.`, {
        hint: `Its disks are ${disks.map((each) => each.name).join(", ")}.`,
      });
    }
    await disk.resize(sizeBytes, { dropsData: dropsData ?? false });
    if (reconnectClients === true) served.server.reconnectClients(disks[index]?.name);
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
    const all = await Promise.allSettled(this.#served.values());
    this.#served.clear();
    for (const each of all) if (each.status === "fulfilled") await closeServed(each.value);
  }

  async #openKnown(vmId: string): Promise<ServedVm> {
    const definition = this.#definitions.get(vmId);
    if (definition === undefined) {
      throw new TidemarkError("NOT_FOUND", `Cannot find VM ${vmId} on this host.`);
    }
    const disks = await openVmDisks(definition, this.#options.durability, this.#options.onNotice);
    try {
      for (const disk of disks) await this.#maps.check(disk);
      return await this.#serve(definition, disks);
    } catch (thrown) {
      for (const disk of disks) await disk.close();
      throw thrown;
    }
  }

  async #serve(definition: VmDefinition, disks: readonly TrackedDisk[]): Promise<ServedVm> {
    const socketPath = join(this.#options.socketDirectory, `${definition.name}.sock`);
    requireSocketPath(socketPath);
    const server = await NbdServer.start({ socketPath, acceptsAtOnce: false });
    try {
      for (const [index, disk] of disks.entries()) {
        const { name } = definition.disks[index] ?? { name: diskName(index) };
        server.addExport(name, disk.native, { description: `${definition.name}/${name}` });
      }
      server.accept();
    } catch (thrown) {
      await server.close();
      throw thrown;
    }
    const names = definition.disks.map((disk) => disk.name);
    const budget = this.#captureBudget(definition);
    const tracker = new TrackedVm(disks, names, budget);
    const bitmaps = new VmBitmaps(definition, disks, server, budget);
    const watch = watchDurability(disks, this.#options.onNotice);
    const mapWatch = this.#maps.watch(disks);
    return { definition, disks, server, tracker, bitmaps, watch, mapWatch };
  }

  #captureBudget(definition: VmDefinition): CaptureBudget {
    const { capture, spillDirectory } = this.#options;
    return { ...capture, spillPath: join(spillDirectory, definition.vmId) };
  }
}

async function closeServed(served: ServedVm): Promise<void> {
  const { disks, server, bitmaps, watch, mapWatch } = served;
  watch[Symbol.dispose]();
  await mapWatch[Symbol.asyncDispose]();
  await bitmaps.close();
  await closeServer(
    server,
    disks.map((disk) => disk.native),
  );
  for (const disk of disks) await disk.close();
}

/** vda to vdz, then vd26 and on. */
function diskName(index: number): string {
  return index < 26 ? `vd${String.fromCharCode(97 + index)}` : `vd${index}`;
}

function requireDistinct(definition: VmDefinition): void {
  const names = new Set(definition.disks.map((disk) => disk.name));
  const ids = new Set(definition.disks.map((disk) => disk.diskId));
  if (names.size === definition.disks.length && ids.size === definition.disks.length) return;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot enable ${definition.name}: because two of its disks are the same or have one name.`,
  );
}

function requireSocketPath(path: string): void {
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES) return;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot serve at ${path}: because a Unix socket's path has at most ${MAX_SOCKET_PATH_BYTES} bytes.`,
    {
      hint: "Give the host a directory with a shorter path.",
    },
  );
}
