import { toTidemarkError } from "../model/errors.js";
import { PointTracker } from "../replica/point-tracker.js";
import type { ReplicaStore } from "../replica/replica-store.js";
import type { OpenedVm } from "../replication/replication-ports.js";

export interface ExtendedVmsOptions {
  readonly store: ReplicaStore;
  /** The VM's disks are others by now: whoever has them open lets go of them, and opens them anew. */
  readonly onOther: (vmId: string) => Promise<void>;
  readonly onWarning: (message: string) => void;
  /** How often what is new is marked, whether it is sent or not. Default: 10 s. */
  readonly advanceIntervalMs?: number;
}

/** The replicas of this host that are replicated on from here. */
export class ExtendedVms implements AsyncDisposable {
  readonly #options: ExtendedVmsOptions;
  readonly #open = new Map<string, Promise<PointTracker>>();
  readonly #reopening = new Set<string>();
  readonly #timer: NodeJS.Timeout;
  #advancing: Promise<void> = Promise.resolve();

  constructor(options: ExtendedVmsOptions) {
    this.#options = options;
    this.#timer = setInterval(() => {
      this.#advancing = this.#advancing.then(() => this.#advanceAll());
    }, options.advanceIntervalMs ?? 10_000).unref();
  }

  /** Before retention: what was marked of a point that is given up could not be gone on from. */
  async start(): Promise<void> {
    for (const { vmId } of await this.#options.store.listVms()) {
      if (await this.#wasExtended(vmId)) await this.#tracker(vmId).catch(() => undefined);
    }
  }

  /** NOT_FOUND while the VM has no recovery point here. */
  async open(vmId: string): Promise<OpenedVm> {
    const tracker = await this.#tracker(vmId);
    return { name: tracker.vmName, tracker, excludedDisks: () => tracker.excludedDisks };
  }

  /** Until it is asked for again. */
  async letGo(vmId: string): Promise<void> {
    const tracker = await this.#open.get(vmId)?.catch(() => undefined);
    this.#open.delete(vmId);
    await tracker?.close();
  }

  /** What is known of the other host's copy goes. Idempotent. */
  async forget(vmId: string): Promise<void> {
    await this.letGo(vmId);
    const { store } = this.#options;
    const forgetting = store.withVm(vmId, ({ files }, { paths }) =>
      files.removeTree(paths.extendedDirectory),
    );
    await forgetting.catch((thrown: unknown) => {
      if (toTidemarkError(thrown).code !== "NOT_FOUND") throw thrown;
    });
  }

  /** What a removal did not come to forget. */
  async keepOnly(isExtended: (vmId: string) => boolean): Promise<void> {
    for (const vmId of this.#open.keys()) if (!isExtended(vmId)) await this.forget(vmId);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#advancing;
    for (const vmId of this.#open.keys()) await this.letGo(vmId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #tracker(vmId: string): Promise<PointTracker> {
    const known = this.#open.get(vmId);
    if (known !== undefined) return known;
    const opening = this.#options.store.withVm(vmId, (tools, replica) =>
      PointTracker.open(tools, replica, () => this.#reopen(vmId)),
    );
    this.#open.set(vmId, opening);
    opening.catch(() => this.#open.delete(vmId));
    return opening;
  }

  #reopen(vmId: string): void {
    if (this.#reopening.has(vmId)) return;
    this.#reopening.add(vmId);
    const { onOther, onWarning } = this.#options;
    const reopening = onOther(vmId).catch((thrown: unknown) => {
      onWarning(`VM ${vmId} is not replicated on from here: ${toTidemarkError(thrown).message}`);
    });
    void reopening.finally(() => this.#reopening.delete(vmId));
  }

  /** What keeps one from going on is said by its replication. */
  async #advanceAll(): Promise<void> {
    for (const opening of this.#open.values()) {
      await opening.then((tracker) => tracker.advance()).catch(() => undefined);
    }
  }

  #wasExtended(vmId: string): Promise<boolean> {
    const { store } = this.#options;
    const looking = store.withVm(vmId, async ({ files }, { paths }) => {
      return (await files.list(paths.extendedDirectory)).length > 0;
    });
    return looking.catch(() => false);
  }
}
