import { setTimeout as sleep } from "node:timers/promises";
import { TidemarkError, toTidemarkError } from "../../model/errors.js";
import type { HypervisorPlace, RunningVm } from "../../model/hypervisor.js";
import type { ServedVm } from "../served-vm.js";
import { freeDisks, lockDisks, requireFiltered, settleDisks } from "./settle-disks.js";

const SETTLE_LIMIT_MS = 60_000;
const LOOK_LIMIT_MS = 5000;
/** Between two tries while the VM is off, or its disks are not where they should be. */
const RETRY_MS = 1000;

/** "tracked": it runs, and all that it writes is marked. */
export type LiveVmState = "starting" | "off" | "tracked" | "bypassed";

export interface LiveVmOptions {
  readonly name: string;
  readonly place: HypervisorPlace;
  readonly connect: (
    place: HypervisorPlace,
    vmName: string,
    signal: AbortSignal,
  ) => Promise<RunningVm>;
  /** Null while the VM's disks are not open on this host, or guests are kept from them. */
  readonly served: () => Promise<ServedVm> | null;
  /** False: it is not this host's any more, and is attended no longer. */
  readonly isKnown: () => boolean;
  readonly onNotice: (message: string) => void;
}

/**
 * Has a VM that may run write by its filters, and knows whether it does. Attends from start()
 * on until close(), which leaves the VM as it is, or leave().
 */
export class LiveVm {
  readonly place: HypervisorPlace;
  readonly #options: LiveVmOptions;
  readonly #ending = new AbortController();
  #vm: RunningVm | null = null;
  #state: LiveVmState = "starting";
  #failure: TidemarkError | null = null;
  #epoch = 0;
  #turn: Promise<void> = Promise.resolve();
  #attending: Promise<void> = Promise.resolve();
  #onWake = () => {};

  constructor(options: LiveVmOptions) {
    this.#options = options;
    this.place = options.place;
  }

  get state(): LiveVmState {
    return this.#state;
  }

  /** Why what the VM writes may not be marked; null: it is, or the VM does not run. */
  get failure(): TidemarkError | null {
    if (this.#state !== "starting") return this.#failure;
    const message = `Cannot track ${this.#options.name} yet: because its hypervisor was not asked.`;
    return new TidemarkError("BYPASSED", message);
  }

  start(): void {
    this.#attending = this.#attend();
  }

  /** Has it look at the VM's disks soon: they may be others. */
  wake(): void {
    this.#onWake();
  }

  /** Moves to its filter what goes past it. Throws what keeps it from that; attending goes on. */
  settle(): Promise<void> {
    return this.#inTurn(() => this.#settle());
  }

  /**
   * Of a cut that is about to be made: `isTracked` of what this answers tells afterwards whether
   * all that had been written was marked at that moment. BYPASSED when it is known not to be.
   */
  requireTracked(): { readonly isTracked: () => Promise<void> } {
    if (this.failure !== null) throw this.failure;
    const epoch = this.#epoch;
    return {
      isTracked: async () => {
        await this.#look().catch(() => undefined);
        if (this.failure !== null) throw this.failure;
        if (this.#epoch === epoch) return;
        const message = `Cannot use the cut of ${this.#options.name}: because its disks were moved meanwhile.`;
        throw new TidemarkError("BYPASSED", message);
      },
    };
  }

  /** The VM goes past Tidemark when it resolves, or does not run; attends no more. */
  async leave(): Promise<void> {
    await this.#end();
    try {
      const served = await this.#options.served();
      const vm = served === null ? null : await this.#connected();
      if (served === null) return;
      if (vm === null) return requireUnused(served);
      await freeDisks(vm, served, AbortSignal.timeout(SETTLE_LIMIT_MS));
    } finally {
      await this.#disconnect();
    }
  }

  /** Does the work while the VM, if it runs, writes to that disk's image itself. */
  async withoutDisk(diskName: string, work: () => Promise<void>): Promise<void> {
    await this.#inTurn(async () => {
      const served = await this.#options.served();
      const vm = served === null ? null : await this.#connected();
      const signal = AbortSignal.timeout(SETTLE_LIMIT_MS);
      if (served !== null && vm !== null) await freeDisks(vm, served, signal, diskName);
      await work();
    }).finally(() => this.wake());
  }

  async close(): Promise<void> {
    await this.#end();
    await this.#disconnect();
  }

  async #end(): Promise<void> {
    this.#ending.abort();
    this.wake();
    await this.#attending;
    await this.#turn;
  }

  async #attend(): Promise<void> {
    while (!this.#ending.signal.aborted && this.#options.isKnown()) {
      const woken = new Promise<void>((resolve) => (this.#onWake = resolve));
      await this.settle().catch(() => undefined);
      if (this.#state === "tracked") await woken;
      else await Promise.race([woken, this.#pause()]);
    }
    await this.#inTurn(() => this.#disconnect());
  }

  async #pause(): Promise<void> {
    const { signal } = this.#ending;
    await sleep(RETRY_MS, undefined, { signal }).catch(() => undefined);
  }

  async #settle(): Promise<void> {
    try {
      const served = await this.#options.served();
      if (served === null) return this.#become("off", null);
      const vm = await this.#connected();
      if (vm === null) {
        await lockDisks(served);
        return this.#become("off", null);
      }
      if (!(await isFiltered(vm, served))) {
        this.#epoch += 1;
        await settleDisks(vm, served, AbortSignal.timeout(SETTLE_LIMIT_MS));
      }
      this.#become("tracked", null);
    } catch (thrown) {
      this.#become("bypassed", toTidemarkError(thrown));
      throw thrown;
    }
  }

  /** What a snapshot or a block job has done since the last time shows here. */
  #look(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#state !== "tracked") return;
      const served = await this.#options.served();
      if (served === null || this.#vm === null) return;
      const signal = AbortSignal.timeout(LOOK_LIMIT_MS);
      await requireFiltered(this.#vm, served, signal).catch(() => this.#settle());
    });
  }

  #become(state: LiveVmState, failure: TidemarkError | null): void {
    const isNews = failure !== null && failure.message !== this.#failure?.message;
    if (failure !== null) this.#epoch += 1;
    if (isNews) this.#options.onNotice(`${failure.message} ${failure.hint ?? ""}`.trim());
    if (state === "tracked" && this.#state === "bypassed") {
      this.#options.onNotice(`${this.#options.name} is tracked again.`);
    }
    this.#state = state;
    this.#failure = failure;
  }

  /** Null: it does not run. */
  async #connected(): Promise<RunningVm | null> {
    const { place, name, connect } = this.#options;
    const signal = AbortSignal.timeout(LOOK_LIMIT_MS);
    if (this.#vm !== null) {
      const isThere = await this.#vm.disks(signal).then(
        () => true,
        () => false,
      );
      if (isThere) return this.#vm;
      await this.#disconnect();
    }
    try {
      this.#vm = await connect(place, name, signal);
    } catch (thrown) {
      if (toTidemarkError(thrown).code === "UNREACHABLE") return null;
      throw thrown;
    }
    void this.#listen(this.#vm);
    return this.#vm;
  }

  async #listen(vm: RunningVm): Promise<void> {
    try {
      for await (const { kind } of vm.events(this.#ending.signal)) {
        if (kind !== "paused" && kind !== "resumed") this.wake();
      }
    } catch {
      // The next look says why.
    }
    this.wake();
  }

  async #disconnect(): Promise<void> {
    const vm = this.#vm;
    this.#vm = null;
    await vm?.close();
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }
}

/** Of a VM whose hypervisor does not answer: it may run by the filters all the same. */
function requireUnused({ server, definition }: ServedVm): void {
  const open = definition.disks.filter(({ name }) => server.clientCount(name) > 0);
  if (open.length === 0) return;
  throw new TidemarkError(
    "IN_USE",
    `Cannot take the filters out of ${definition.name}: because its monitor does not answer, and ${open.map(({ name }) => name).join(", ")} is open.`,
    { hint: "Shut the VM down, or end what has its disks open." },
  );
}

async function isFiltered(vm: RunningVm, served: ServedVm): Promise<boolean> {
  const signal = AbortSignal.timeout(LOOK_LIMIT_MS);
  return requireFiltered(vm, served, signal).then(
    () => true,
    () => false,
  );
}
