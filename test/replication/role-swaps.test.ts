import t from "tap";
import { ROLE_SWAP_SABOTAGES, simulateRoleSwaps } from "./simulation/role-swaps.js";

const isSoak = process.env["TIDEMARK_SOAK"] === "1";
const SEEDS = Number(process.env["TIDEMARK_SEEDS"] ?? (isSoak ? "2000" : "24"));
const FIRST_SEED = Number(process.env["TIDEMARK_FIRST_SEED"] ?? "1");
const SWAPS = 4;

t.setTimeout(isSoak ? 3_000_000 : 600_000);

const MUST_HAPPEN = [
  "planned-failover",
  "unplanned-failover",
  "returned unchanged",
  "returned with writes of its own",
  "crash of the primary",
];

void t.test("G1 G2 G6 G7: there and back, nothing is lost but what was given up", async (t) => {
  const happened: Record<string, number> = {};
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed += 1) {
    const result = await simulateRoleSwaps(seed, { swaps: SWAPS });
    if (result.violation !== null) t.fail(result.violation);
    for (const [name, count] of Object.entries(result.happened)) {
      happened[name] = (happened[name] ?? 0) + count;
    }
  }
  t.comment(JSON.stringify(happened));
  if (SEEDS < 20) return;
  for (const name of MUST_HAPPEN) t.ok((happened[name] ?? 0) > 0, `it happened: ${name}`);
});

for (const sabotage of process.env["NOSAB"] ? [] : ROLE_SWAP_SABOTAGES) {
  void t.test(`the simulation fails when ${sabotage}`, async (t) => {
    for (let seed = 1; seed <= 200; seed += 1) {
      const { violation } = await simulateRoleSwaps(seed, { swaps: SWAPS, sabotage });
      if (violation === null) continue;
      t.pass(violation.slice(0, 200));
      return;
    }
    t.fail("it does not notice");
  });
}
