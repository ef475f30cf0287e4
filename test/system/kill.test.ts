/**
 * kill -9 of the primary and of the replica at named phases of a write's and a
 * cycle's life, under load. Whatever the moment: replication goes on with what
 * changed alone, and every recovery point that was acknowledged stays what the
 * guest's journal says it is.
 *
 * TIDEMARK_SOAK=1 hits each phase five times, and more phases twice.
 */
import t from "tap";
import { ReplicatedVm } from "../support/replicated-vm.js";
import { SeededRandom } from "../support/seeded-random.js";

interface Phase {
  readonly host: "primary" | "replica";
  readonly name: string;
  /** The passage that kills is one of the first so many. */
  readonly passages: number;
  /** Under soak. */
  readonly hits: number;
}

const SEED = Number(process.env["TIDEMARK_SEED"] ?? "20");
const isSoak = process.env["TIDEMARK_SOAK"] === "1";

const PHASES: readonly Phase[] = [
  { host: "primary", name: "mark", passages: 200, hits: 5 },
  { host: "primary", name: "write", passages: 200, hits: 5 },
  { host: "primary", name: "copy-before-write", passages: 6, hits: 5 },
  { host: "primary", name: "put", passages: 2, hits: 5 },
  { host: "primary", name: "in-doubt", passages: 2, hits: 5 },
  { host: "primary", name: "clear", passages: 2, hits: 5 },
  { host: "replica", name: "layer.append", passages: 100, hits: 5 },
  { host: "replica", name: "layer.sync", passages: 8, hits: 5 },
  { host: "replica", name: "layer.seal", passages: 10, hits: 5 },
  { host: "replica", name: "sync", passages: 2, hits: 5 },
  { host: "replica", name: "rename", passages: 2, hits: 5 },
  { host: "replica", name: "commit", passages: 2, hits: 5 },
  { host: "replica", name: "acknowledge", passages: 2, hits: 5 },
];

const SOAK_PHASES: readonly Phase[] = [
  { host: "primary", name: "flip", passages: 4, hits: 2 },
  { host: "primary", name: "bitmap.flip", passages: 4, hits: 2 },
  { host: "primary", name: "bitmap.merge", passages: 4, hits: 2 },
  { host: "primary", name: "bitmap.take", passages: 4, hits: 2 },
  { host: "primary", name: "bitmap.commit", passages: 4, hits: 2 },
];

t.setTimeout(isSoak ? 1_500_000 : 600_000);

const random = new SeededRandom(SEED);
const hits = new Map<string, number>();

function countHit(row: string): void {
  hits.set(row, (hits.get(row) ?? 0) + 1);
}

/** At whatever moment it is, then with the failpoint armed, until that has killed it. */
async function killAt(vm: ReplicatedVm, phase: Phase, passage: number): Promise<string | null> {
  const host = vm[phase.host];
  await host.kill();
  countHit(`${phase.host} any-moment`);
  const failpoint = `${phase.name}:${passage}`;
  if (phase.host === "primary") await vm.startPrimary(failpoint);
  else await host.start(failpoint);
  await vm.waitFor(`${phase.host} to pass ${failpoint}`, () => !host.isRunning);
  const { signal } = await host.death;
  return signal;
}

void t.test("killed at any phase, both hosts go on and keep every recovery point", async (t) => {
  const vm = await ReplicatedVm.start(SEED);
  t.teardown(() => vm.close());
  const judged = new Set<string>();
  for (const phase of isSoak ? [...PHASES, ...SOAK_PHASES] : PHASES) {
    await t.test(`${phase.host} killed at ${phase.name}`, async (t) => {
      for (let hit = 0; hit < (isSoak ? phase.hits : 1); hit += 1) {
        const passage = 1 + random.below(phase.passages);
        t.equal(await killAt(vm, phase, passage), "SIGKILL", `died at passage ${passage}`);
        countHit(`${phase.host} ${phase.name}`);
        if (phase.host === "primary") await vm.startPrimary();
        else await vm.replica.start();
        const next = await vm.nextPoint();
        t.equal(next.kind, "cycle", "replication goes on where it was");
      }
      t.same(vm.oversized, [], "no cycle takes more than was written since the one before");
      t.same(await vm.faults(judged), [], "the acknowledged points are there and right");
    });
  }

  await t.test("all points are still what they were, after all the kills", async (t) => {
    t.same(await vm.faults(new Set()), []);
    t.ok(vm.acknowledged.size >= PHASES.length, `${vm.acknowledged.size} acknowledged points`);
    t.ok(vm.load.reconnectCount > 2, "the guest had to connect again");
  });

  await t.test("a point that lacks a block of the last write is refused", async (t) => {
    const point = (await vm.points()).at(-1);
    if (point === undefined) throw new Error("there is no point");
    const { prefixLength } = await vm.judge(point);
    const forged = vm.load.journal.map((entry) =>
      entry.sequence === prefixLength
        ? { ...entry, blockCount: entry.blockCount + 1, wasInterrupted: false }
        : entry,
    );
    t.not((await vm.judge(point, forged)).faults.length, 0, "the oracle says so");
  });

  for (const [phase, count] of hits) t.comment(`${phase.padEnd(28)} ${count} hits`);
});
