import t from "tap";
import { simulateFanOut } from "./simulation/fan-out.js";
import { FAN_OUT_SABOTAGES } from "./simulation/fan-out-sabotage.js";

const isSoak = process.env["TIDEMARK_SOAK"] === "1";
const SEEDS = Number(process.env["TIDEMARK_SEEDS"] ?? (isSoak ? "3000" : "120"));
const FIRST_SEED = Number(process.env["TIDEMARK_FIRST_SEED"] ?? "1");
const STEPS = 400;

t.setTimeout(isSoak ? 3_000_000 : 600_000);

/** What the runs must have met for their result to mean something. */
const MUST_HAPPEN = [
  "enabled",
  "taken over and noted",
  "adding refused",
  "hand-over",
  "hand-over refused",
  "taking back",
  "planned-failover",
  "unplanned-failover",
  "cancelled",
  "taken-over",
  "reversal",
  "returned unchanged",
  "returned with writes of its own",
  "removal",
  "removal of one that has the VM",
  "crash of a primary",
  "crash of one that gave the VM away",
  "pause of a primary",
  "clock set",
  "full disk",
  "disk added",
  "disk removed",
  "disk resized",
  "crash with other disks",
];

void t.test(
  "G1 G2 G6 G7: whichever host has the VM, one writes to each replica, and one serves it",
  async (t) => {
    const happened: Record<string, number> = {};
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed += 1) {
      const result = await simulateFanOut(seed, { steps: STEPS });
      if (result.violation !== null) t.fail(result.violation);
      for (const [name, count] of Object.entries(result.happened)) {
        happened[name] = (happened[name] ?? 0) + count;
      }
    }
    t.comment(JSON.stringify(happened));
    if (SEEDS < 120) return;
    for (const name of MUST_HAPPEN) t.ok((happened[name] ?? 0) > 0, `it happened: ${name}`);
  },
);

for (const sabotage of FAN_OUT_SABOTAGES) {
  void t.test(`the simulation fails when ${sabotage}`, async (t) => {
    for (let seed = 1; seed <= 200; seed += 1) {
      const { violation } = await simulateFanOut(seed, { steps: STEPS, sabotage });
      if (violation === null) continue;
      t.pass(violation.slice(0, 200));
      return;
    }
    t.fail("it does not notice");
  });
}
