import { failpoint } from "../../model/failpoint.js";
import type { BlockMonitor } from "./block-monitor.js";
import { isAnswering } from "./is-answering.js";
import { MirrorJob } from "./mirror-job.js";
import type { SwitchNames } from "./switch-names.js";

/** How long a guest may stand still because the new node does not answer. */
const LIMIT_MS = 10_000;

/** One move of a disk under its running guest, from a node to a new one over the same storage. */
export interface Move {
  readonly from: string;
  readonly to: string;
  /** The new one, for blockdev-add. */
  readonly node: object;
  /** Looks at the new node before anything depends on it. */
  readonly check: (signal: AbortSignal) => Promise<void>;
}

/** Moves one disk, and undoes or takes up what was left half done. */
export class DiskSwitch {
  readonly #monitor: BlockMonitor;
  readonly #names: SwitchNames;
  readonly #job: MirrorJob;

  constructor(monitor: BlockMonitor, names: SwitchNames) {
    this.#monitor = monitor;
    this.#names = names;
    this.#job = new MirrorJob(monitor, names);
  }

  /**
   * The guest's disk is one node or the other when it resolves, and nothing is on its way: what
   * is not in use of the nodes that a move adds is gone.
   */
  async settle(): Promise<void> {
    const signal = AbortSignal.timeout(LIMIT_MS);
    await this.#job.settle(signal);
    for (const nodeName of [this.#names.filterNode, this.#names.imageNode]) {
      await this.#discard(nodeName, signal);
    }
  }

  /**
   * Deletes the node unless it is in use, or not there. QEMU flushes what it deletes, and stands
   * still with its guest until the server answers: a filter that is dead stays until it is served.
   */
  async #discard(nodeName: string, signal: AbortSignal): Promise<void> {
    if (await this.#isInUse(nodeName, signal)) return;
    const node = await this.#monitor.node(nodeName, signal);
    if (node === null || !(await isAnswering(node, signal))) return;
    await this.#monitor.qmp.execute("blockdev-del", { "node-name": nodeName }, signal);
  }

  /** As it began when it rejects, for an abort or an error. Past the order to switch, an abort comes too late. */
  async move(move: Move, signal: AbortSignal): Promise<void> {
    try {
      await this.#attempt(move, signal);
    } catch (thrown) {
      await this.settle();
      if (!(await this.#isInUse(move.to, AbortSignal.timeout(LIMIT_MS)))) throw thrown;
    }
  }

  async #attempt({ from, to, node, check }: Move, signal: AbortSignal): Promise<void> {
    const limit = AbortSignal.timeout(LIMIT_MS);
    const bounded = AbortSignal.any([signal, limit]);
    await this.#monitor.qmp.execute("blockdev-add", node, bounded);
    failpoint("filter.added");
    await check(bounded);
    await this.#job.start(from, to, bounded);
    failpoint("filter.mirrored");
    bounded.throwIfAborted();
    await this.#job.order(limit);
    failpoint("filter.ordered");
    await this.#job.finish(limit);
  }

  async #isInUse(nodeName: string, signal: AbortSignal): Promise<boolean> {
    const devices = await this.#monitor.devices(signal);
    return devices.some(({ root }) => root.nodeName === nodeName);
  }
}
