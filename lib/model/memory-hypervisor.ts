import { TidemarkError } from "./errors.js";
import type { DiskFilter, Hypervisor, RunningVm, VmDisk, VmEvent } from "./hypervisor.js";

/** A VM as it is, whoever is connected to it. */
export class MemoryMachine {
  readonly disks = new Map<string, VmDisk>();
  /** Sockets at which filters are served. */
  readonly served = new Set<string>();
  readonly watches = new Set<MemoryWatch>();
  isRunning = true;

  /** As a snapshot, or whatever moves a disk away, would. */
  bypass(diskName: string, imagePath: string): void {
    const disk = this.disk(diskName);
    this.disks.set(diskName, { ...disk, imagePath, format: "qcow2", filter: null });
    if (disk.filter !== null) this.tell({ kind: "bypassed", diskName });
  }

  tell(event: VmEvent): void {
    for (const watch of this.watches) watch.tell(event);
  }

  stop(): void {
    this.isRunning = false;
    this.tell({ kind: "stopped" });
    for (const watch of this.watches) watch.end();
  }

  disk(name: string): VmDisk {
    const disk = this.disks.get(name);
    if (disk !== undefined) return disk;
    throw new TidemarkError("NOT_FOUND", `Cannot find disk ${name} of the VM.`);
  }
}

export class MemoryHypervisor implements Hypervisor {
  readonly #machines: ReadonlyMap<string, MemoryMachine>;

  constructor(machines: ReadonlyMap<string, MemoryMachine>) {
    this.#machines = machines;
  }

  async connect(vmName: string, signal: AbortSignal): Promise<RunningVm> {
    signal.throwIfAborted();
    const machine = this.#machines.get(vmName);
    if (machine === undefined) {
      throw new TidemarkError("NOT_FOUND", `Cannot reach VM ${vmName}: because it is not known.`);
    }
    requireRunning(machine);
    return new MemoryVm(machine);
  }
}

class MemoryVm implements RunningVm {
  readonly #machine: MemoryMachine;
  readonly #watches = new Set<MemoryWatch>();
  #isClosed = false;

  constructor(machine: MemoryMachine) {
    this.#machine = machine;
  }

  async disks(signal: AbortSignal): Promise<readonly VmDisk[]> {
    this.#require(signal);
    return [...this.#machine.disks.values()];
  }

  async insertFilter(diskName: string, filter: DiskFilter, signal: AbortSignal): Promise<void> {
    this.#require(signal);
    const disk = this.#machine.disk(diskName);
    if (isSame(disk, filter)) return;
    if (disk.filter !== null) throw conflict("insert", "it goes by another filter");
    if (disk.format !== "raw") {
      throw new TidemarkError("UNSUPPORTED", `Cannot insert: because it is ${disk.format}.`);
    }
    if (disk.isReadOnly) throw conflict("insert", "it is read-only");
    if (disk.imagePath !== filter.imagePath) throw conflict("insert", "it is another image");
    if (!this.#machine.served.has(filter.socketPath)) {
      throw new TidemarkError("UNREACHABLE", "Cannot insert: because nobody serves it.");
    }
    const { socketPath, exportName } = filter;
    const moved = { imagePath: null, format: "nbd", filter: { socketPath, exportName } };
    this.#machine.disks.set(diskName, { ...disk, ...moved });
  }

  async removeFilter(diskName: string, filter: DiskFilter, signal: AbortSignal): Promise<void> {
    this.#require(signal);
    const disk = this.#machine.disk(diskName);
    if (disk.imagePath === filter.imagePath) return;
    if (!isSame(disk, filter)) throw conflict("remove", "it does not go by that filter");
    const moved = { imagePath: filter.imagePath, format: "raw", filter: null };
    this.#machine.disks.set(diskName, { ...disk, ...moved });
  }

  events(signal: AbortSignal): AsyncIterable<VmEvent> {
    const watch = new MemoryWatch();
    this.#machine.watches.add(watch);
    this.#watches.add(watch);
    signal.addEventListener("abort", () => watch.end(), { once: true });
    return watch;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const watch of this.#watches) watch.end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #require(signal: AbortSignal): void {
    signal.throwIfAborted();
    if (this.#isClosed) throw new TidemarkError("CLOSED", "Cannot use the VM: it is closed.");
    requireRunning(this.#machine);
  }
}

class MemoryWatch implements AsyncIterable<VmEvent> {
  readonly #events: VmEvent[] = [];
  #onEvent = () => {};
  #isOver = false;

  tell(event: VmEvent): void {
    this.#events.push(event);
    this.#onEvent();
  }

  end(): void {
    this.#isOver = true;
    this.#onEvent();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<VmEvent> {
    for (;;) {
      const more = new Promise<void>((resolve) => (this.#onEvent = resolve));
      yield* this.#events.splice(0);
      if (this.#events.length > 0) continue;
      if (this.#isOver) return;
      await more;
    }
  }
}

function isSame({ filter }: VmDisk, wanted: DiskFilter): boolean {
  return filter?.socketPath === wanted.socketPath && filter.exportName === wanted.exportName;
}

function requireRunning({ isRunning }: MemoryMachine): void {
  if (isRunning) return;
  throw new TidemarkError("UNREACHABLE", "Cannot reach the VM: because it does not run.");
}

function conflict(what: string, why: string): TidemarkError {
  return new TidemarkError("CONFLICT", `Cannot ${what} the filter: because ${why}.`);
}
