import { readFileSync } from "node:fs";
import t from "tap";
import { CheckpointTurn } from "#lib/replication/checkpoint-turn.js";
import { CycleHistory } from "#lib/replication/cycle-history.js";
import {
  ContinuousSchedule,
  type CycleSchedule,
  RegularSchedule,
} from "#lib/replication/cycle-schedule.js";
import { judgeHealth } from "#lib/replication/health.js";
import { backOff } from "#lib/replication/retry.js";
import { RELATIONSHIP_STATES } from "#lib/model/relationship.js";
import { systemClock } from "#lib/replication/system-clock.js";
import { nextState, TRANSITIONS } from "#lib/replication/transitions.js";
import { VirtualClock } from "./simulation/virtual-clock.js";

const never = new AbortController().signal;

/** Waits as the loop does; answers how many were missed. */
async function due(clock: VirtualClock, schedule: CycleSchedule): Promise<number> {
  await clock.run(schedule.waitMs);
  return schedule.begin();
}

void t.test("checkpoints of a host take turns, also after one that failed", async (t) => {
  const turn = new CheckpointTurn();
  const clock = new VirtualClock();
  const log: string[] = [];
  const work = (name: string, fails: boolean) => async () => {
    log.push(`${name} begins`);
    await clock.sleep(10);
    log.push(`${name} ends`);
    if (fails) throw new Error(name);
  };
  const all = Promise.allSettled([turn.run(work("a", true)), turn.run(work("b", false))]);
  await clock.run(100);
  await all;
  t.same(log, ["a begins", "a ends", "b begins", "b ends"]);
});

void t.test("the machine's clock ends a sleep with the signal's reason", async (t) => {
  const stop = new AbortController();
  const reason = new Error("enough");
  const asleep = systemClock.sleep(1e12, stop.signal);
  stop.abort(reason);
  await t.rejects(asleep, reason);
  await t.rejects(systemClock.sleep(1, stop.signal), reason);
  await systemClock.sleep(0);
});

void t.test("no two transitions answer the same question", async (t) => {
  for (const hasPoint of [true, false]) {
    const guard = hasPoint ? "has a point" : "has no point";
    const rows = TRANSITIONS.filter((row) => (row.guard ?? guard) === guard);
    const questions = rows.map((row) => `${row.from} ${row.event}`);
    t.equal(new Set(questions).size, questions.length);
  }
});

void t.test("every state is reached from ready and can be left", async (t) => {
  const reached = new Set(["ready"]);
  for (let round = 0; round < TRANSITIONS.length; round += 1) {
    for (const row of TRANSITIONS) if (reached.has(row.from)) reached.add(row.to);
  }
  t.same([...reached].sort(), [...RELATIONSHIP_STATES].sort());
  for (const state of reached) t.ok(TRANSITIONS.some((r) => r.from === state && r.to !== state));
});

void t.test(
  "resuming without a point goes on with the first copy, with one with the cycles",
  async (t) => {
    t.equal(nextState("suspended", "resume", false), "ready");
    t.equal(nextState("suspended", "resume", true), "replicating");
    t.equal(nextState("suspended", "point", true), null);
  },
);

void t.test("the page about the states shows the table", async (t) => {
  const url = new URL("../../docs/relationship-states.md", import.meta.url);
  const page = readFileSync(url, "utf8");
  const rows = [...page.matchAll(/^\| `(.+?)` \| `(.+?)` \| (.*?) ?\| `(.+?)` \|/gm)];
  const shown = rows.map(([, from, event, guard, to]) => [from, event, guard, to]);
  t.same(
    shown,
    TRANSITIONS.map((row) => [row.from, row.event, row.guard ?? "", row.to]),
  );
});

void t.test("waits between tries double, with jitter, up to the maximum", async (t) => {
  const clock = new VirtualClock();
  const limits = { retryBaseMs: 100, retryMaxMs: 1000 };
  const waits: number[] = [];
  for (const [failures, random] of [
    [1, 0],
    [1, 1],
    [2, 1],
    [3, 1],
    [4, 1],
    [50, 1],
  ] as const) {
    const before = clock.monotonicMs();
    const wait = backOff({ clock, random: () => random, limits }, failures, never);
    clock.step();
    await wait;
    waits.push(clock.monotonicMs() - before);
  }
  t.same(waits, [50, 100, 200, 400, 800, 1000]);
});

void t.test("aligned schedules are due together, whenever they were begun", async (t) => {
  const clock = new VirtualClock();
  await clock.run(300);
  const early = new RegularSchedule(clock, 1000, true);
  early.restart();
  await clock.run(500);
  const late = new RegularSchedule(clock, 1000, true);
  const dueMs: number[] = [];
  for (const schedule of [late, early, late, early]) {
    await due(clock, schedule);
    dueMs.push(clock.monotonicMs());
  }
  t.same(dueMs, [1000, 2000, 2000, 3000]);
});

void t.test("ticks that passed are missed, and the rhythm stays", async (t) => {
  const clock = new VirtualClock();
  const schedule = new RegularSchedule(clock, 1000);
  schedule.restart();
  const seen: [number, number][] = [];
  for (const workMs of [100, 2500, 0, 0]) {
    const missed = await due(clock, schedule);
    seen.push([clock.monotonicMs(), missed]);
    await clock.run(workMs);
  }
  t.same(seen, [
    [1000, 0],
    [2000, 0],
    [4500, 1],
    [5000, 0],
  ]);
});

void t.test(
  "continuous cycles follow each other, and ease off while nothing changes",
  async (t) => {
    const clock = new VirtualClock();
    const schedule = new ContinuousSchedule(clock, 1000);
    const waits: number[] = [];
    for (const hadChanges of [true, true, false, false, false, false, false, true]) {
      t.equal(await due(clock, schedule), 0);
      await clock.run(3000);
      schedule.end(hadChanges);
      waits.push(schedule.waitMs);
    }
    t.same(waits, [100, 100, 200, 400, 800, 1000, 1000, 100]);
  },
);

void t.test("the history keeps the last reports and counts all", async (t) => {
  const history = new CycleHistory(3);
  const report = (cutSequence: number) => ({
    kind: "cycle" as const,
    cutSequence,
    pointId: null,
    consistency: "crash" as const,
    startedAtMs: 0,
    durationMs: 0,
    changedBytes: 0,
    sentBytes: 0,
    unchangedBytes: 0,
    pauseNs: 0,
    requestsInFlight: 0,
    lagMs: 0,
    healing: null,
  });
  for (let sequence = 1; sequence <= 5; sequence += 1) history.add(report(sequence));
  t.same(
    history.reports.map((each) => each.cutSequence),
    [3, 4, 5],
  );
  t.equal(history.cycleCount, 5);
});

void t.test("health is the worst finding, and says every one", async (t) => {
  const fine = {
    state: "replicating" as const,
    errorMessage: null,
    failuresInARow: 0,
    lagMs: 1000,
    intervalMs: 1000,
    suspectBytes: 0,
    waitsUntilMs: null,
    cycles: { doneCount: 80, missedCount: 20, meanDurationMs: 900 },
    grownDrainLimitMs: null,
    applications: null,
  };
  t.same(judgeHealth(fine), { health: "normal", reasons: [] });
  t.equal(judgeHealth({ ...fine, lagMs: 4000 }).health, "warning");
  t.equal(judgeHealth({ ...fine, lagMs: 13_000 }).health, "critical");
  t.equal(judgeHealth({ ...fine, failuresInARow: 1 }).health, "warning");
  t.equal(judgeHealth({ ...fine, failuresInARow: 5 }).health, "critical");
  t.equal(judgeHealth({ ...fine, state: "error" }).health, "critical");
  t.equal(judgeHealth({ ...fine, state: "suspended" }).health, "warning");
  t.equal(judgeHealth({ ...fine, state: "initial-replication" }).health, "warning");
  const applications = {
    lastPointAtMs: 0,
    lastError: { code: "X", message: "It broke.", hint: null, retryable: true, retryAtMs: 0 },
    thaw: null,
  };
  t.same(judgeHealth({ ...fine, applications }), {
    health: "warning",
    reasons: [
      "The last point is not application-consistent: It broke. Next try at 1970-01-01T00:00:00.000Z.",
    ],
  });
  const thaw = { sinceMs: 0, error: applications.lastError };
  t.same(judgeHealth({ ...fine, applications: { ...applications, lastError: null, thaw } }), {
    health: "critical",
    reasons: ["The VM's applications may be frozen since 1970-01-01T00:00:00.000Z: It broke."],
  });
  const both = judgeHealth({ ...fine, lagMs: 13_000, grownDrainLimitMs: 100 });
  t.equal(both.reasons.length, 2);
});

void t.test("health counts the missed cycles, with the numbers", async (t) => {
  const facts = {
    state: "replicating" as const,
    errorMessage: null,
    failuresInARow: 0,
    lagMs: 5000,
    intervalMs: 5000,
    suspectBytes: 0,
    waitsUntilMs: null,
    cycles: { doneCount: 79, missedCount: 21, meanDurationMs: 7250 },
    grownDrainLimitMs: null,
    applications: null,
  };
  t.same(judgeHealth(facts), {
    health: "warning",
    reasons: ["21 of the last 100 cycles were missed: one is due every 5.0 s and takes 7.3 s."],
  });
  const few = { doneCount: 5, missedCount: 4, meanDurationMs: 1 };
  t.equal(judgeHealth({ ...facts, cycles: few }).health, "normal");
});

void t.test("health of long intervals is judged by the hour", async (t) => {
  const daily = {
    state: "replicating" as const,
    errorMessage: null,
    failuresInARow: 0,
    lagMs: 24.9 * 3_600_000,
    intervalMs: 24 * 3_600_000,
    suspectBytes: 0,
    waitsUntilMs: null,
    cycles: { doneCount: 1, missedCount: 0, meanDurationMs: 1 },
    grownDrainLimitMs: null,
    applications: null,
  };
  t.equal(judgeHealth(daily).health, "normal");
  t.equal(judgeHealth({ ...daily, lagMs: 25.1 * 3_600_000 }).health, "warning");
});

void t.test("a state that waits says for what, and how much is concerned", async (t) => {
  const facts = {
    state: "resynchronization-required" as const,
    errorMessage: null,
    failuresInARow: 0,
    lagMs: 0,
    intervalMs: 5000,
    suspectBytes: 8192,
    waitsUntilMs: Date.UTC(2026, 10, 23, 22),
    cycles: { doneCount: 0, missedCount: 0, meanDurationMs: 0 },
    grownDrainLimitMs: null,
    applications: null,
  };
  const { health, reasons } = judgeHealth(facts);
  t.equal(health, "critical");
  t.match(reasons[0], /8192 bytes .* 2026-11-23T22:00:00.000Z/);
  t.match(judgeHealth({ ...facts, waitsUntilMs: null }).reasons[0], /an administrator/);
});
