import t from "tap";
import { FAILOVER_SABOTAGES } from "./simulation/failover-sabotage.js";
import { hasFailovers } from "./simulation/failovers.js";
import { SABOTAGES, type Sabotage } from "./simulation/sabotage.js";
import { simulate } from "./simulation/simulation.js";

const STEPS = 400;
const SEEDS = 400;

t.setTimeout(600_000);

const NAMES = [...Object.keys(SABOTAGES), ...Object.keys(FAILOVER_SABOTAGES)] as Sabotage[];

for (const name of NAMES) {
  void t.test(`the simulation fails when ${name}`, async (t) => {
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      if (name in FAILOVER_SABOTAGES !== hasFailovers(seed)) continue;
      const { violation } = await simulate(seed, { steps: STEPS, sabotage: name });
      if (violation === null) continue;
      t.pass(violation.slice(0, 200));
      return;
    }
    t.fail("it does not notice");
  });
}
