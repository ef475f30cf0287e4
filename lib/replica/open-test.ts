import type { Clock } from "../model/clock.js";
import { toTidemarkError } from "../model/errors.js";
import type { PointExport } from "../model/replica-exports.js";
import type {
  GroupTest,
  NewEnd,
  TestFailover,
  TestFailoverCheck,
  TestFailoverOutcome,
  TestFailoverReport,
  TestFailoverTerms,
} from "../model/test-failover.js";
import type { PointExports } from "./point-exports.js";
import type { Verifications } from "./verifications.js";

export interface OpenTestOptions {
  readonly exports: PointExports;
  readonly verifications: Pick<Verifications, "verify">;
  readonly clock: Clock;
  readonly onWarning: (message: string) => void;
  readonly entry: PointExport;
  readonly terms: TestFailoverTerms;
  readonly group: GroupTest | null;
  readonly openingMs: number;
}

/** One test failover while it is open. */
export class OpenTest {
  readonly #options: OpenTestOptions;
  readonly #sinceMs: number;
  readonly #begunAtMs: number;
  /** By the monotonic clock. */
  #endsAtMs: number;
  readonly #ending = new AbortController();
  #awake = new AbortController();
  #check: TestFailoverCheck | null = null;
  #hasWarned = false;

  constructor(options: OpenTestOptions) {
    this.#options = options;
    const { clock, terms } = options;
    this.#sinceMs = clock.nowMs();
    this.#begunAtMs = clock.monotonicMs();
    this.#endsAtMs = this.#begunAtMs + (terms.forMs ?? Number.POSITIVE_INFINITY);
  }

  get exportId(): string {
    return this.#options.entry.exportId;
  }

  get vmId(): string {
    return this.#options.entry.vmId;
  }

  get group(): GroupTest | null {
    return this.#options.group;
  }

  get leftMs(): number {
    return this.#endsAtMs - this.#options.clock.monotonicMs();
  }

  async describe(): Promise<TestFailover> {
    const { clock, entry, exports, terms, group, openingMs } = this.#options;
    const { leftMs } = this;
    const usage = (await exports.usage(this.exportId)) ?? NO_USAGE;
    return {
      ...entry,
      test: {
        ...usage,
        sinceMs: this.#sinceMs,
        untilMs: Number.isFinite(leftMs) ? clock.nowMs() + leftMs : null,
        ageMs: clock.monotonicMs() - this.#begunAtMs,
        openingMs,
        scratchLimitBytes: terms.scratchLimitBytes,
        group,
        check: this.#check,
      },
    };
  }

  /** Of one that has no end, a time is added to nothing: it stays without. */
  moveEnd(end: NewEnd): void {
    const { clock } = this.#options;
    if ("byMs" in end) this.#endsAtMs += end.byMs;
    else if (end.untilMs === null) this.#endsAtMs = Number.POSITIVE_INFINITY;
    else this.#endsAtMs = clock.monotonicMs() + end.untilMs - clock.nowMs();
    this.#awake.abort();
  }

  /** Until its end, its end's change, or for that long. */
  async rest(longestMs: number): Promise<void> {
    const signal = AbortSignal.any([this.#ending.signal, this.#awake.signal]);
    const restMs = Math.min(this.leftMs, longestMs);
    await this.#options.clock.sleep(restMs, signal).catch(() => undefined);
    this.#awake = new AbortController();
  }

  /** Begins to read all of its point; what comes of it is in describe(). */
  check(): void {
    const { verifications, entry, clock } = this.#options;
    const begunAtMs = clock.monotonicMs();
    this.#check = { state: "running", verifiedBytes: 0, durationMs: null, failure: null };
    const durationMs = () => clock.monotonicMs() - begunAtMs;
    verifications.verify(this.vmId, entry.point.sequence, this.#ending.signal).then(
      ({ result, verifiedBytes }) => {
        this.#check = { state: result, verifiedBytes, durationMs: durationMs(), failure: null };
      },
      (thrown: unknown) => {
        const failure = toTidemarkError(thrown).message;
        const verifiedBytes = 0;
        this.#check = { state: "failed", verifiedBytes, durationMs: durationMs(), failure };
      },
    );
  }

  /** Once. */
  warnIfRefused(): void {
    if (this.#hasWarned || this.#options.exports.refusedWriteCount(this.exportId) === 0) return;
    this.#hasWarned = true;
    this.#options.onWarning(
      `Writes of test failover ${this.exportId} fail: because its scratch has no more room. Replication goes on; end the test, or repeat it with a larger --scratch.`,
    );
  }

  /** For its end: nothing is begun any more. */
  async reportOf(outcome: TestFailoverOutcome): Promise<TestFailoverReport> {
    const { entry, exports, clock } = this.#options;
    const { scratchBytes, refusedWriteCount } = (await exports.usage(this.exportId)) ?? NO_USAGE;
    const check = this.#check?.state === "running" ? null : this.#check;
    this.#ending.abort();
    return {
      exportId: this.exportId,
      pointId: entry.point.pointId,
      pointSequence: entry.point.sequence,
      sinceMs: this.#sinceMs,
      endedAtMs: clock.nowMs(),
      outcome,
      scratchBytes,
      refusedWriteCount,
      check,
    };
  }
}

const NO_USAGE = { scratchBytes: 0, refusedWriteCount: 0, clientCount: 0 };
