import { setTimeout as sleep } from "node:timers/promises";
import { type TidemarkError, toTidemarkError } from "../../model/errors.js";
import type { VmEvent } from "../../model/hypervisor.js";
import type { BlockMonitor } from "./block-monitor.js";
import type { QmpEvent } from "./qmp-message.js";
import { vmDiskOf } from "./vm-disk-of.js";

/** QEMU says nothing when a snapshot moves a disk away, so it is asked. */
const LOOK_MS = 500;

const STATES: Readonly<Record<string, VmEvent>> = {
  STOP: { kind: "paused" },
  RESUME: { kind: "resumed" },
};
const GRAPH_EVENTS = /^(?:JOB_|BLOCK_JOB_|BLOCK_|DEVICE_)/;

/** What happens to a VM, for one listener. */
export class VmWatch implements AsyncIterable<VmEvent> {
  /** Resolves when nothing comes any more. */
  readonly ended: Promise<void>;
  readonly #monitor: BlockMonitor;
  readonly #ending = new AbortController();
  readonly #signal: AbortSignal;
  readonly #events: VmEvent[] = [];
  /** By disk, whether it goes by a filter; null before the first look. */
  #known: Map<string, boolean> | null = null;
  readonly #leaving = new Set<string>();
  #failure: TidemarkError | null = null;
  #onEvent = () => {};
  #onGraph = () => {};
  #isOver = false;

  /** Looks from now on. */
  constructor(monitor: BlockMonitor, signal: AbortSignal) {
    this.#monitor = monitor;
    this.#signal = AbortSignal.any([signal, this.#ending.signal]);
    const unlisten = monitor.qmp.onEvent((event) => this.#hear(event));
    this.ended = this.#lookOn().finally(() => {
      unlisten();
      this.#isOver = true;
      this.#onEvent();
    });
  }

  /** The disk went to its filter by our own order: what takes it away from now on is news. */
  onInserted(diskName: string): void {
    this.#known?.set(diskName, true);
  }

  /** Until onRemoved(), that the disk leaves its filter is our own order, and no news. */
  onRemoving(diskName: string): void {
    this.#leaving.add(diskName);
  }

  onRemoved(diskName: string, hasLeft: boolean): void {
    this.#leaving.delete(diskName);
    if (hasLeft) this.#known?.set(diskName, false);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<VmEvent> {
    try {
      for (;;) {
        const more = new Promise<void>((resolve) => (this.#onEvent = resolve));
        yield* this.#events.splice(0);
        if (this.#events.length > 0) continue;
        if (this.#failure !== null) throw this.#failure;
        if (this.#isOver) return;
        await more;
      }
    } finally {
      this.#ending.abort();
    }
  }

  #hear({ name }: QmpEvent): void {
    const state = STATES[name];
    if (state !== undefined) this.#tell(state);
    if (GRAPH_EVENTS.test(name)) this.#onGraph();
  }

  #tell(event: VmEvent): void {
    this.#events.push(event);
    this.#onEvent();
  }

  async #lookOn(): Promise<void> {
    const { qmp } = this.#monitor;
    try {
      while (!this.#signal.aborted) {
        const changed = new Promise<void>((resolve) => (this.#onGraph = resolve));
        await this.#look();
        const pause = sleep(LOOK_MS, undefined, { signal: this.#signal });
        await Promise.race([changed, pause, qmp.ended]);
        pause.catch(() => undefined);
      }
    } catch (thrown) {
      if (!this.#signal.aborted) this.#fail(toTidemarkError(thrown));
    }
  }

  #fail(reason: TidemarkError): void {
    if (reason.code === "UNREACHABLE") this.#tell({ kind: "stopped" });
    else if (reason.code !== "CLOSED") this.#failure = reason;
  }

  async #look(): Promise<void> {
    const devices = await this.#monitor.devices(this.#signal);
    const found = new Map(
      devices.map((device) => [device.name, vmDiskOf(device).filter !== null] as const),
    );
    const known = this.#known;
    this.#known = found;
    if (known === null) return;
    for (const [diskName, isFiltered] of found) {
      const isOurs = isFiltered || this.#leaving.has(diskName);
      if (!known.has(diskName)) this.#tell({ kind: "disk-attached", diskName });
      else if (known.get(diskName) === true && !isOurs) this.#tell({ kind: "bypassed", diskName });
    }
    for (const diskName of known.keys()) {
      if (!found.has(diskName)) this.#tell({ kind: "disk-detached", diskName });
    }
  }
}
