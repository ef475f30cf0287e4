import type { Clock } from "../model/clock.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type {
  VerificationProgress,
  VerificationReport,
  VerificationStatus,
} from "../model/verification.js";
import { AsyncLock } from "./async-lock.js";
import type { ReplicaStore } from "./replica-store.js";
import { ScrubPace } from "./scrub-pace.js";
import { requirePoint, scrubBytes, type ScrubRequest, scrubVm } from "./scrub-vm.js";

export interface VerificationsOptions {
  readonly store: ReplicaStore;
  readonly clock: Clock;
  readonly bytesPerSecond: number;
}

interface Running {
  readonly stop: AbortController;
  readonly pace: ScrubPace;
  readonly progress: () => VerificationProgress;
  /** Null: it did not come to its end; why is among the failures. */
  readonly ended: Promise<VerificationReport | null>;
}

/** The verifications of a store's VMs: one at a time, at a bounded rate. */
export class Verifications implements AsyncDisposable {
  readonly #options: VerificationsOptions;
  readonly #turn = new AsyncLock();
  readonly #running = new Map<string, Running>();
  readonly #failures = new Map<string, string>();
  #isClosed = false;

  constructor(options: VerificationsOptions) {
    this.#options = options;
  }

  /**
   * Begins one; IN_USE while one of the VM is under way. `pointSequence` null: everything.
   * `mends`: what memory holds of damaged small files is written again.
   */
  async start(vmId: string, pointSequence: number | null, mends = false): Promise<void> {
    const totalBytes = await this.#options.store.withVm(vmId, (tools, replica) => {
      if (pointSequence !== null) requirePoint(replica, pointSequence);
      return scrubBytes(tools, replica, pointSequence);
    });
    this.#requireFree(vmId);
    this.#failures.delete(vmId);
    const begun = this.#begin(vmId, { pointSequence, mends, totalBytes });
    this.#running.set(vmId, begun);
    void begun.ended.then(() => this.#running.delete(vmId));
  }

  /** To the end, after one that is under way. CANCELLED when it is stopped. */
  async verify(
    vmId: string,
    pointSequence: number,
    signal: AbortSignal,
  ): Promise<VerificationReport> {
    while (!(await this.#startIfFree(vmId, pointSequence))) {
      await this.settled(vmId);
      signal.throwIfAborted();
    }
    const { stop, ended } = this.#require(vmId);
    const abort = () => stop.abort(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    const report = await ended.finally(() => signal.removeEventListener("abort", abort));
    if (report !== null) return report;
    const why = this.#failures.get(vmId) ?? "It was stopped.";
    throw new TidemarkError("CANCELLED", `Cannot verify recovery point ${pointSequence}: ${why}`);
  }

  /** False: another one of the VM is under way. */
  async #startIfFree(vmId: string, pointSequence: number): Promise<boolean> {
    try {
      await this.start(vmId, pointSequence);
      return true;
    } catch (thrown) {
      if (toTidemarkError(thrown).code !== "IN_USE") throw thrown;
      return false;
    }
  }

  /** Resolves when it has ended; what it had found by then counts for nothing. */
  async stop(vmId: string): Promise<void> {
    const { stop, ended } = this.#require(vmId);
    stop.abort(new TidemarkError("CANCELLED", "The verification was stopped."));
    await ended;
  }

  pause(vmId: string): void {
    this.#require(vmId).pace.pause();
  }

  resume(vmId: string): void {
    this.#require(vmId).pace.resume();
  }

  /** Resolves when none of the VM is under way. */
  async settled(vmId: string): Promise<void> {
    await this.#running.get(vmId)?.ended;
  }

  async status(vmId: string): Promise<VerificationStatus> {
    const known = await this.#options.store.withVm(vmId, async (_tools, replica) => {
      const ledger = await replica.ledger();
      const { sequences } = await ledger.damagedPoints();
      const head = replica.chain.head()?.point.sequence ?? 0;
      const isHeadDamaged = sequences.includes(head);
      return { last: ledger.last, damage: ledger.damage, damagedPoints: sequences, isHeadDamaged };
    });
    return {
      ...known,
      running: this.#running.get(vmId)?.progress() ?? null,
      lastFailure: this.#failures.get(vmId) ?? null,
    };
  }

  /** Those under way are stopped. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const vmId of this.#running.keys()) await this.stop(vmId).catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #begin(
    vmId: string,
    {
      pointSequence,
      mends,
      totalBytes,
    }: Pick<ScrubRequest, "pointSequence" | "mends"> & {
      readonly totalBytes: number;
    },
  ): Running {
    const { clock, bytesPerSecond } = this.#options;
    const stop = new AbortController();
    const pace = new ScrubPace(clock, bytesPerSecond);
    const findings = { verifiedBytes: 0, unknownBytes: 0, damage: [], mendedFiles: [] };
    const startedAtMs = clock.nowMs();
    const progress = () => {
      const { verifiedBytes } = findings;
      return { startedAtMs, pointSequence, verifiedBytes, totalBytes, isPaused: pace.isPaused };
    };
    const { signal } = stop;
    const request = { pointSequence, mends, pace, signal, findings, nowMs: () => clock.nowMs() };
    const ended = this.#turn
      .run(() =>
        this.#options.store.withVm(vmId, (tools, replica) => {
          signal.throwIfAborted();
          return scrubVm(tools, replica, request);
        }),
      )
      .catch((thrown: unknown) => {
        this.#failures.set(vmId, toTidemarkError(thrown).message);
        return null;
      });
    return { stop, pace, progress, ended };
  }

  #requireFree(vmId: string): void {
    if (this.#isClosed) {
      throw new TidemarkError("CLOSED", "Cannot verify: because the service is ending.");
    }
    if (!this.#running.has(vmId)) return;
    throw new TidemarkError(
      "IN_USE",
      `Cannot verify VM ${vmId}: because a verification of it is under way.`,
      { hint: "Wait for its end, or stop it first." },
    );
  }

  #require(vmId: string): Running {
    const running = this.#running.get(vmId);
    if (running !== undefined) return running;
    throw new TidemarkError(
      "NOT_FOUND",
      `Cannot find a verification of VM ${vmId}: because none is under way.`,
    );
  }
}
