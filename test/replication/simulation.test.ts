import t from "tap";
import { simulate } from "./simulation/simulation.js";

const isSoak = process.env["TIDEMARK_SOAK"] === "1";
const SEEDS = Number(process.env["TIDEMARK_SEEDS"] ?? (isSoak ? "5000" : "970"));
const FIRST_SEED = Number(process.env["TIDEMARK_FIRST_SEED"] ?? "1");
const STEPS = 400;

t.setTimeout(isSoak ? 3_000_000 : 900_000);

/** What the runs must have met for their result to mean something. */
const MUST_HAPPEN = [
  "point",
  "empty",
  "unchanged",
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
  "clock set",
  "pause of the primary",
  "NO_SPACE",
  "bitmap lost",
  "another interval",
  "another address",
  "continuous",
  "manual resync",
  "resync ordered",
  "first copy cancelled",
  "first copy started",
  "disk added",
  "disk removed",
  "disk resized",
  "crash with other disks",
  "hand-over",
  "taking back",
  "planned-failover",
  "unplanned-failover",
  "cancelled",
  "rest after a failover",
];

void t.test(
  "G1 G2 G6 G7 G9: whatever happens, points are cuts, one side writes, nothing sticks",
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
