/** Recovery plans in simulated time, with a world that keeps a list of what was done to it. */
import t, { type Test } from "tap";
import { TidemarkError } from "#lib/model/errors.js";
import { MemoryStateStore } from "#lib/model/memory-state-store.js";
import type { ChosenPoints, PlanRun, PlanRunKind, ScriptOutcome } from "#lib/model/plan-run.js";
import type { PlanFailover, PlanScript, PlanStep, RecoveryPlan } from "#lib/model/recovery-plan.js";
import type { PlanPorts } from "#lib/replication/plan-ports.js";
import { RecoveryPlans } from "#lib/replication/recovery-plans.js";
import { VirtualClock } from "./simulation/virtual-clock.js";

const FINE: ScriptOutcome = {
  exitCode: 0,
  signal: null,
  isTimedOut: false,
  output: "",
  isOutputCut: false,
};
const LOSS = { pointAtMs: 0, lastKnownAtMs: 0, givenUpMs: 0, atMostMs: 1 };

/** Outlives the service, as VMs do; tests do not. */
class World implements PlanPorts {
  readonly runsFrom = new Map<string, string>();
  readonly scripts: string[] = [];
  readonly environments: Readonly<Record<string, string>>[] = [];
  readonly refused = new Set<string>();
  readonly outcomes = new Map<string, ScriptOutcome>();
  open = new Set<string>();
  /** A point comes between any two looks. */
  #pointCount = 0;
  #testCount = 0;

  async choose({ vms = [] }: PlanFailover): Promise<ChosenPoints> {
    this.#pointCount += 1;
    const pointSequence = this.#pointCount;
    return {
      cut: null,
      vms: vms.map((name) => {
        if (this.refused.has(name)) throw new TidemarkError("NOT_FOUND", `No ${name}.`);
        const pointId = `point ${pointSequence}`;
        return { vmId: name, name, pointId, pointSequence, takenAtMs: 0, loss: LOSS };
      }),
    };
  }

  async failOver({ vms }: ChosenPoints, kind: PlanRunKind) {
    return vms.map(({ vmId, name, pointId }) => {
      const nothing = { vmId, name, testId: null, error: null };
      const disks = [{ name: "vda", uri: `nbd://${name}` }];
      if (kind === "test") return { ...nothing, disks, testId: this.#openTest() };
      const from = this.runsFrom.get(name) ?? pointId;
      if (from !== pointId) throw new TidemarkError("CONFLICT", `${name} runs from ${from}.`);
      this.runsFrom.set(name, pointId);
      return { ...nothing, disks };
    });
  }

  openTests(testIds: readonly string[]): readonly string[] {
    return testIds.filter((id) => this.open.has(id));
  }

  async endTests(testIds: readonly string[]): Promise<void> {
    for (const id of testIds) this.open.delete(id);
  }

  async checkScript({ path }: PlanScript): Promise<void> {
    if (this.refused.has(path)) throw new TidemarkError("FORBIDDEN", `Not ${path}.`);
  }

  async runScript(
    { path }: PlanScript,
    environment: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<ScriptOutcome> {
    this.scripts.push(path);
    this.environments.push(environment);
    await Promise.resolve();
    signal.throwIfAborted();
    return this.outcomes.get(path) ?? FINE;
  }

  #openTest(): string {
    this.#testCount += 1;
    const id = `test ${this.#testCount}`;
    this.open.add(id);
    return id;
  }
}

/** Writes that many, then none: the service is dead. */
class DyingStore extends MemoryStateStore {
  leftPuts = Number.POSITIVE_INFINITY;

  override async put(key: string, value: unknown, expectedVersion?: number): Promise<number> {
    if (this.leftPuts <= 0) throw new TidemarkError("IO_ERROR", "The service is dead.");
    this.leftPuts -= 1;
    return super.put(key, structuredClone(value), expectedVersion);
  }
}

class Scene {
  readonly world = new World();
  readonly store = new DyingStore();
  readonly clock = new VirtualClock();
  readonly warnings: string[] = [];
  plans: RecoveryPlans;

  private constructor(plans: RecoveryPlans) {
    this.plans = plans;
  }

  static async of(...steps: readonly (Partial<PlanStep> & { readonly name: string })[]) {
    const scene = new Scene(null as unknown as RecoveryPlans);
    await scene.reopen();
    const full = steps.map((step): PlanStep => ({ onFailure: "stop", ...step }));
    const plan: RecoveryPlan = { version: 1, name: "shop", steps: full };
    await scene.plans.add(plan, false);
    return scene;
  }

  async reopen(): Promise<void> {
    const { store, clock, world: ports } = this;
    const onWarning = (text: string) => this.warnings.push(text);
    this.plans = await RecoveryPlans.open({ store, ports, clock, onWarning });
  }

  /** To its end, or to the death of the service. */
  async settle(): Promise<PlanRun | null> {
    for (let idle = 0; idle < 50; idle += 1) {
      await new Promise(setImmediate);
      if (this.clock.step()) idle = 0;
    }
    return this.plans.run("shop", null).catch(() => null);
  }

  async run(kind: PlanRunKind): Promise<PlanRun | null> {
    await this.plans.start("shop", kind);
    return this.settle();
  }
}

const script = (path: string) => ({ path, args: [], timeoutMs: 1000 });
const FULL: readonly (Partial<PlanStep> & { readonly name: string })[] = [
  { name: "database", failover: { vms: ["db"] } },
  { name: "announce", script: script("/announce") },
  { name: "rest", delayMs: 60_000 },
  { name: "front", failover: { vms: ["web", "queue"] } },
  { name: "check", script: script("/check") },
  { name: "end", endTest: true },
];

const statesOf = (run: PlanRun | null) => run?.steps.map(({ state }) => state);

void t.test("a real run does its steps in order, and reports each", async (t) => {
  const scene = await Scene.of(...FULL);
  const run = await scene.run("real");
  t.equal(run?.state, "completed");
  t.same(statesOf(run), ["done", "done", "done", "done", "done", "skipped"]);
  t.same([...scene.world.runsFrom.keys()], ["db", "web", "queue"]);
  t.same(scene.world.scripts, ["/announce", "/check"]);
  const [before, after] = scene.world.environments;
  t.match(before, { TIDEMARK_PLAN: "shop", TIDEMARK_RUN_KIND: "real", TIDEMARK_VMS: "db" });
  t.equal(after?.["TIDEMARK_VMS"], "db web queue");
  t.match(after?.["TIDEMARK_DISKS"], /^db\tvda\tnbd:\/\/db\nweb\tvda\tnbd:\/\/web\n/);
  const rest = run?.steps[2];
  t.equal((rest?.endedAtMs ?? 0) - (rest?.startedAtMs ?? 0), 60_000);
  t.same(run?.steps[0]?.chosen?.vms[0]?.loss, LOSS);
});

void t.test("a test run ends its tests by its step, or by order", async (t) => {
  const scene = await Scene.of(...FULL);
  const run = await scene.run("test");
  t.equal(run?.state, "completed");
  t.equal(scene.world.runsFrom.size, 0, "nothing was promoted");
  t.equal(scene.world.open.size, 0);

  const lasting = await Scene.of({ name: "all", failover: { vms: ["db", "web"] } });
  await lasting.run("test");
  t.equal(lasting.world.open.size, 2);
  await t.rejects(lasting.plans.start("shop", "test"), { code: "CONFLICT", message: /are open/ });
  t.equal(await lasting.plans.endTests("shop"), 2);
  t.equal(lasting.world.open.size, 0);
  t.equal(await lasting.plans.endTests("shop"), 0);
});

void t.test(
  "a step that fails stops the run, or not, as it says; resumed, it is tried again",
  async (t) => {
    const failing = { ...FINE, exitCode: 3, output: "no such table" };
    const scene = await Scene.of(
      { name: "tolerant", script: script("/a"), onFailure: "continue" },
      { name: "strict", script: script("/b") },
      { name: "last", script: script("/c") },
    );
    scene.world.outcomes
      .set("/a", failing)
      .set("/b", { ...FINE, exitCode: null, isTimedOut: true });
    const run = await scene.run("real");
    t.equal(run?.state, "failed");
    t.same(statesOf(run), ["failed", "failed", "waiting"]);
    t.match(run?.steps[0], { error: { message: /status 3/ }, script: { output: "no such table" } });
    t.match(run?.steps[1]?.error, { code: "TIMED_OUT", message: /within 1000 ms, and was killed/ });

    scene.world.outcomes.clear();
    await scene.plans.resume("shop");
    const resumed = await scene.settle();
    t.equal(resumed?.state, "completed with failures", "the first one has failed still");
    t.same(scene.world.scripts, ["/a", "/b", "/b", "/c"]);
    t.equal(resumed?.runId, run?.runId);
    await t.rejects(scene.plans.resume("shop"), {
      code: "CONFLICT",
      message: /completed with failures/,
    });
  },
);

/** What a run that was interrupted after any of its notes must have done in the end. */
async function diesAfter(t: Test, putCount: number, kind: PlanRunKind): Promise<boolean> {
  const scene = await Scene.of(...FULL.slice(0, 5));
  scene.store.leftPuts = putCount;
  const isStarted = await scene.plans.start("shop", kind).then(
    () => true,
    () => false,
  );
  await scene.settle();
  const isDead = scene.store.leftPuts <= 0;
  // The service's death closes tests; the world keeps what runs.
  scene.world.open.clear();
  scene.store.leftPuts = Number.POSITIVE_INFINITY;
  await scene.reopen();
  if (!isStarted) return isDead;
  const found = await scene.plans.run("shop", null);
  if (found.state === "completed") return isDead;
  t.equal(found.state, "interrupted");
  const finished = found.steps.filter(({ state }) => state === "done");
  const before = [...scene.world.scripts];
  await scene.plans.resume("shop");
  const run = await scene.settle();
  t.equal(run?.state, "completed", `${kind}, dead after ${putCount} notes`);
  const isRepeated = (name: string, path: string) =>
    finished.some((step) => step.name === name) &&
    scene.world.scripts.slice(before.length).includes(path);
  t.notOk(isRepeated("announce", "/announce") || isRepeated("check", "/check"));
  if (kind === "test") t.equal(scene.world.open.size, 3, "what it needs is open again, once");
  else t.same([...scene.world.runsFrom.keys()], ["db", "web", "queue"]);
  return isDead;
}

void t.test(
  "T43: a run that dies between any two of its notes is resumed without repeating a step",
  async (t) => {
    for (const kind of ["real", "test"] as const) {
      let putCount = 0;
      while (await diesAfter(t, putCount, kind)) putCount += 1;
      t.ok(putCount > 10, `${putCount} notes`);
    }
  },
);

void t.test(
  "one run of a plan at a time; it is stopped by order and by the service's end",
  async (t) => {
    const scene = await Scene.of(
      { name: "rest", delayMs: 60_000 },
      { name: "s", script: script("/s") },
    );
    await scene.plans.start("shop", "real");
    await t.rejects(scene.plans.start("shop", "test"), { code: "IN_USE" });
    await t.rejects(scene.plans.remove("shop"), { code: "IN_USE" });
    await t.rejects(scene.plans.endTests("shop"), { code: "IN_USE" });
    const stopped = await scene.plans.stop("shop");
    t.equal(stopped.state, "stopped");
    t.same(statesOf(stopped), ["interrupted", "waiting"]);
    await t.rejects(scene.plans.stop("shop"), { code: "CONFLICT" });

    await scene.plans.resume("shop");
    await scene.plans.close();
    await scene.reopen();
    const interrupted = await scene.plans.run("shop", null);
    t.equal(interrupted.state, "interrupted");
    t.same(interrupted.resumedAtMs.length, 1);
    await scene.plans.resume("shop");
    t.equal((await scene.settle())?.state, "completed");
  },
);

void t.test("what speaks against a run is found before its first step", async (t) => {
  const scene = await Scene.of(...FULL);
  for (const refused of ["/check", "web"]) {
    scene.world.refused.add(refused);
    await t.rejects(scene.plans.start("shop", "real"), {
      message: /its step (check|front) cannot/,
    });
    scene.world.refused.clear();
  }
  t.same([scene.world.runsFrom.size, scene.world.scripts], [0, []]);
  t.same(await scene.plans.runs("shop"), []);
});

void t.test("plans are kept by name, and reports outlive their plan", async (t) => {
  const scene = await Scene.of({ name: "s", script: script("/s") });
  const plan = await scene.plans.plan("shop");
  await t.rejects(scene.plans.add(plan, false), { code: "ALREADY_EXISTS" });
  await scene.plans.add({ ...plan, description: "another" }, true);
  await scene.reopen();
  t.same(
    (await scene.plans.list()).map(({ name, description }) => [name, description]),
    [["shop", "another"]],
  );
  const first = await scene.run("real");
  await scene.run("real");
  await scene.plans.remove("shop");
  await t.rejects(scene.plans.start("shop", "real"), { code: "NOT_FOUND" });
  t.equal((await scene.plans.runs("shop")).length, 2);
  t.equal((await scene.plans.run("shop", first?.runId ?? "")).runId, first?.runId);
  await t.rejects(scene.plans.runs("other"), { code: "NOT_FOUND" });
  await t.rejects(scene.plans.run("shop", "none"), { code: "NOT_FOUND" });
});
