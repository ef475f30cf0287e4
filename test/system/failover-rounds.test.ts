/**
 * Failovers in a row, between two host processes that are killed at whatever phase: what
 * must be there is there after every round, and what was lost is what the chosen point
 * said. Judged by the guests' own accounts and by plain files.
 *
 * TIDEMARK_SOAK=1 plays two hundred rounds; TIDEMARK_SEED=n those of one VM.
 */
import t from "tap";
import { playRound } from "../support/failover-rounds/play-round.js";
import { planRound, ROUND_KINDS, type RoundPlan } from "../support/failover-rounds/round-plan.js";
import { WanderingVm } from "../support/failover-rounds/wandering-vm.js";
import { SeededRandom } from "../support/seeded-random.js";

const isSoak = process.env["TIDEMARK_SOAK"] === "1";
const oneSeed = process.env["TIDEMARK_SEED"];
const ROUNDS_PER_VM = isSoak ? 20 : Number(process.env["TIDEMARK_ROUNDS"] ?? "5");
const VM_COUNT = isSoak ? 10 : 1;
const FIRST_SEED = 61;

t.setTimeout(isSoak ? 3_000_000 : 600_000);

const totals = new Map<string, number>();

function count(name: string, by = 1): void {
  totals.set(name, (totals.get(name) ?? 0) + by);
}

/** What goes wrong says in which round it did. */
async function playOne(vm: WanderingVm, seed: number, number: number, plan: RoundPlan) {
  const round = `seed ${seed}, round ${number}: ${JSON.stringify(plan)}`;
  const startedMs = performance.now();
  const { lostWrites } = await playRound(vm, plan).catch((thrown: unknown) => {
    throw new Error(`${round}: ${String(thrown)}`);
  });
  if (vm.faults.length > 0) vm.faults.unshift(round);
  count("rounds");
  count(plan.kind);
  count("writes given up, as announced", lostWrites);
  const tookMs = Math.round(performance.now() - startedMs);
  if (isSoak || oneSeed !== undefined) console.error(`${round} took ${tookMs} ms`);
}

async function playRounds(seed: number): Promise<readonly string[]> {
  const planning = new SeededRandom(Math.imul(seed, 0x9e3779b1));
  const vm = await WanderingVm.start(seed);
  try {
    for (let number = 0; number < ROUNDS_PER_VM && vm.faults.length === 0; number += 1) {
      await playOne(vm, seed, number, planRound(planning, number));
    }
  } finally {
    await vm.close();
  }
  count("points judged", vm.judgedCount);
  for (const { hits, deathCount } of [vm.primary, vm.replica]) {
    count("kills", deathCount);
    for (const [failpoint, by] of hits) count(`killed at ${failpoint}`, by);
  }
  return vm.faults;
}

const seeds =
  oneSeed === undefined
    ? Array.from({ length: VM_COUNT }, (_, index) => FIRST_SEED + index)
    : [Number(oneSeed)];

// Most of a round is waiting.
void t.test("G6 G7: failovers in a row, with kills", { jobs: 4 }, async (t) => {
  const vms = seeds.map((seed) =>
    t.test(`${ROUNDS_PER_VM} failovers, seed ${seed}`, async (t) => {
      t.same(await playRounds(seed), []);
    }),
  );
  await Promise.all(vms);
  for (const kind of ROUND_KINDS) t.ok((totals.get(kind) ?? 0) > 0, `it was played: ${kind}`);
  for (const [name, number] of totals) t.comment(`${name}: ${number}`);
});
