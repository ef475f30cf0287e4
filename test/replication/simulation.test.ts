import t from "tap";
import { simulate } from "./simulation/simulation.js";

const SEEDS = Number(process.env["TIDEMARK_SEEDS"] ?? "250");
const FIRST_SEED = Number(process.env["TIDEMARK_FIRST_SEED"] ?? "1");
const STEPS = 400;

t.setTimeout(600_000);

/** What the runs must have met for their result to mean something. */
const MUST_HAPPEN = [
  "point",
  "empty",
  "UNREACHABLE",
  "TIMED_OUT",
  "CORRUPT",
  "IO_ERROR",
  "CAPTURE_BROKEN",
  "STAGING_LOST",
  "crash in doubt",
  "restart of the primary",
  "crash of the replica",
  "compared",
  "healed",
  "unseen change",
  "bitmap lost",
];

void t.test(
  "G1 G2 G9: whatever happens, points are cuts, changes are marked, nothing sticks",
  async (t) => {
    const happened: Record<string, number> = {};
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed += 1) {
      const result = await simulate(seed, { steps: STEPS });
      if (result.violation !== null) t.fail(result.violation);
      for (const [name, count] of Object.entries(result.happened)) {
        happened[name] = (happened[name] ?? 0) + count;
      }
    }
    t.comment(JSON.stringify(happened));
    if (SEEDS < 100) return;
    for (const name of MUST_HAPPEN) t.ok((happened[name] ?? 0) > 0, `it happened: ${name}`);
  },
);

void t.test("a seed reproduces its run", async (t) => {
  t.same(await simulate(7, { steps: STEPS }), await simulate(7, { steps: STEPS }));
});
