import t from "tap";
import { SABOTAGES, type Sabotage } from "./simulation/sabotage.js";
import { simulate } from "./simulation/simulation.js";

const STEPS = 400;
const SEEDS = 400;

t.setTimeout(600_000);

for (const name of Object.keys(SABOTAGES) as Sabotage[]) {
  void t.test(`the simulation fails when ${name}`, async (t) => {
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      const { violation } = await simulate(seed, { steps: STEPS, sabotage: name });
      if (violation === null) continue;
      t.pass(violation.slice(0, 200));
      return;
    }
    t.fail("it does not notice");
  });
}
