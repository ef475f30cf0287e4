import { randomUUID } from "node:crypto";
import type { Clock } from "../model/clock.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type {
  GroupTest,
  NewEnd,
  TestFailover,
  TestFailoverOutcome,
  TestFailoverReport,
  TestFailoverTerms,
} from "../model/test-failover.js";
import { OpenTest } from "./open-test.js";
import type { PointExports } from "./point-exports.js";
import type { Verifications } from "./verifications.js";

export interface TestFailoversOptions {
  readonly exports: PointExports;
  readonly verifications: Pick<Verifications, "verify">;
  readonly clock: Clock;
  /** Each one that ended, however. */
  readonly onEnd: (vmId: string, report: TestFailoverReport) => Promise<void>;
  readonly onWarning: (message: string) => void;
}

export interface TestFailoverRequest {
  readonly vmId: string;
  readonly pointId: string;
}

/**
 * A day: a test that began in the morning is there the next morning, and one that was
 * forgotten is gone before it has held back a weekend's recovery points.
 */
export const DEFAULT_TEST_FAILOVERS = {
  forMs: 86_400_000,
  scratchLimitBytes: null,
  endOnShortage: false,
};

/** How often an open one is looked at beside its end. */
const LOOK_MS = 10_000;

/**
 * Recovery points that are open for a test. Each ends by itself, by a clock that the wall
 * clock's jumps do not move: its clients are cut off and what they wrote is dropped.
 */
export class TestFailovers implements AsyncDisposable {
  readonly #options: TestFailoversOptions;
  readonly #open = new Map<string, OpenTest>();
  #isClosed = false;

  constructor(options: TestFailoversOptions) {
    this.#options = options;
  }

  /** Tells of those that the death of the service ended. */
  async reportDropped(): Promise<void> {
    const { exports, clock, onEnd } = this.#options;
    for (const { document, scratchBytes } of exports.dropped) {
      const { exportId, vmId, pointId, openedAtMs } = document;
      await onEnd(vmId, {
        exportId,
        pointId,
        pointSequence: null,
        sinceMs: openedAtMs,
        endedAtMs: clock.nowMs(),
        outcome: "death of the service",
        scratchBytes,
        refusedWriteCount: 0,
        check: null,
      });
    }
  }

  async open(
    request: TestFailoverRequest,
    terms: TestFailoverTerms,
    isChecked: boolean,
  ): Promise<TestFailover> {
    return (await this.#begin(request, terms, isChecked, null)).describe();
  }

  /** All of them, or none. */
  async openGroup(
    requests: readonly TestFailoverRequest[],
    cut: Omit<GroupTest, "testId">,
    terms: TestFailoverTerms,
    isChecked: boolean,
  ): Promise<readonly TestFailover[]> {
    const group = { ...cut, testId: randomUUID() };
    try {
      for (const request of requests) await this.#begin(request, terms, isChecked, group);
    } catch (thrown) {
      for (const test of this.#find(group.testId)) await this.#end(test, "closed");
      throw thrown;
    }
    return Promise.all(this.#find(group.testId).map((test) => test.describe()));
  }

  /** Oldest first. */
  list(): Promise<readonly TestFailover[]> {
    return Promise.all([...this.#open.values()].map((test) => test.describe()));
  }

  has(exportOrTestId: string): boolean {
    return this.#find(exportOrTestId).length > 0;
  }

  /** One, or those of a group's test. NOT_FOUND. */
  async prolong(exportOrTestId: string, end: NewEnd): Promise<readonly TestFailover[]> {
    const tests = this.#require(exportOrTestId);
    for (const test of tests) test.moveEnd(end);
    return Promise.all(tests.map((test) => test.describe()));
  }

  /** One, or those of a group's test. NOT_FOUND. */
  async end(exportOrTestId: string, outcome: TestFailoverOutcome = "closed"): Promise<void> {
    for (const test of this.#require(exportOrTestId)) await this.#end(test, outcome);
  }

  /** The one that is open longest, of those VMs; answers whether there was any. */
  async endOldest(vmIds: readonly string[]): Promise<boolean> {
    const oldest = [...this.#open.values()].find(({ vmId }) => vmIds.includes(vmId));
    if (oldest === undefined) return false;
    await this.#end(oldest, "space shortage");
    return true;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const test of this.#open.values()) await this.#end(test, "end of the service");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #begin(
    { vmId, pointId }: TestFailoverRequest,
    terms: TestFailoverTerms,
    isChecked: boolean,
    group: GroupTest | null,
  ): Promise<OpenTest> {
    if (this.#isClosed) {
      throw new TidemarkError("CLOSED", "Cannot test a failover: because the service is ending.");
    }
    const { exports, clock } = this.#options;
    const askedAtMs = clock.monotonicMs();
    const entry = await exports.openExport(vmId, pointId, "test-failover", terms.scratchLimitBytes);
    const openingMs = clock.monotonicMs() - askedAtMs;
    const test = new OpenTest({ ...this.#options, entry, terms, group, openingMs });
    this.#open.set(entry.exportId, test);
    if (isChecked) test.check();
    this.#watch(test).catch((thrown: unknown) =>
      this.#options.onWarning(
        `Cannot look after test failover ${test.exportId}: because ${toTidemarkError(thrown).message}`,
      ),
    );
    return test;
  }

  async #watch(test: OpenTest): Promise<void> {
    while (this.#open.has(test.exportId)) {
      if (test.leftMs <= 0) return this.#end(test, "time limit");
      test.warnIfRefused();
      await test.rest(LOOK_MS);
    }
  }

  async #end(test: OpenTest, outcome: TestFailoverOutcome): Promise<void> {
    const { exports, onEnd, onWarning } = this.#options;
    if (!this.#open.delete(test.exportId)) return;
    const report = await test.reportOf(outcome);
    await exports.closeExport(test.exportId);
    await onEnd(test.vmId, report);
    if (outcome === "closed" || outcome === "end of the service") return;
    onWarning(
      `Test failover ${test.exportId} of recovery point ${report.pointSequence ?? "-"} has ended: ${outcome}. What it wrote is dropped.`,
    );
  }

  #find(exportOrTestId: string): readonly OpenTest[] {
    return [...this.#open.values()].filter(
      ({ exportId, group }) => exportId === exportOrTestId || group?.testId === exportOrTestId,
    );
  }

  #require(exportOrTestId: string): readonly OpenTest[] {
    const found = this.#find(exportOrTestId);
    if (found.length > 0) return found;
    throw new TidemarkError(
      "NOT_FOUND",
      `Cannot find test failover ${exportOrTestId}: because none of that id is open.`,
      { hint: "`tidemark vm test-failovers VM` lists the open ones and the last one's end." },
    );
  }
}
