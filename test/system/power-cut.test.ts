/**
 * T1, T3, G1: real power cuts. After each, the file system is mounted again, the bitmap
 * opened as on another boot, and every block that the replica has otherwise than the
 * disk is marked or suspect; no block is older than a flush that the guest was answered.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import {
  type Cut,
  type PlantedFault,
  powerCutIsMissing,
  PowerCutMachine,
} from "../support/power-cut.js";
import { scratchDirectory } from "../support/program.js";

const skip = await powerCutIsMissing();
const isSoak = process.env["TIDEMARK_SOAK"] === "1";
const ROUNDS = isSoak ? 200 : 6;
const CUTS_PER_MACHINE = 20;
const FAULT_ROUNDS = 40;
const REGION_COUNT = 16;

t.setTimeout(isSoak ? 900_000 : 120_000);

let machineCount = 0;

async function machineOf(directory: string, fault: PlantedFault): Promise<PowerCutMachine> {
  machineCount += 1;
  const own = join(directory, `machine-${machineCount}`);
  await mkdir(own);
  return PowerCutMachine.start(own, machineCount, fault);
}

void t.test(
  `T3: after each of ${ROUNDS} power cuts, what differs is marked or suspect`,
  { skip },
  async (t) => {
    const directory = await scratchDirectory(t);
    const cuts: Cut[] = [];
    const sum = (of: (cut: Cut) => number) => cuts.reduce((total, cut) => total + of(cut), 0);
    // A machine without time to spare commits less often: then some more cuts.
    const isEnough = () =>
      cuts.length >= ROUNDS &&
      (sum((cut) => cut.commits) > cuts.length || cuts.length >= 10 * ROUNDS);
    while (!isEnough()) {
      await using machine = await machineOf(directory, "none");
      for (let i = 0; i < CUTS_PER_MACHINE && !isEnough(); i += 1) {
        const cut = await machine.cut();
        cuts.push(cut);
        const { lost, unflushed } = cut;
        if (lost.length + unflushed.length > 0) t.fail(JSON.stringify(cut));
      }
    }
    t.pass(`${cuts.length} cuts`);
    // The checks had something to check.
    t.ok(sum((cut) => cut.differing) > cuts.length, "blocks differed");
    t.ok(sum((cut) => cut.commits) > cuts.length, "the replica committed");
    t.ok(sum((cut) => cut.suspectRegions) < REGION_COUNT * cuts.length, "regions were quiet");
    t.ok(sum((cut) => (cut.stopped ? 0 : 1)) > 0, "cuts of a running machine");
    t.comment(
      `${sum((cut) => cut.differing)} blocks differed, ${sum((cut) => cut.torn)} were torn, ` +
        `${sum((cut) => cut.suspectRegions)} regions suspect, ` +
        `${sum((cut) => (cut.stopped ? 1 : 0))} cuts of a stopped writer`,
    );
  },
);

const FAULTS: readonly [PlantedFault, keyof Cut, string][] = [
  ["intent", "lost", "a mark in the intent log that is not synced"],
  ["map", "lost", "a map that is not synced before its region is quiet"],
  ["flush", "unflushed", "a flush that is not passed on"],
];

for (const [fault, kind, what] of FAULTS) {
  void t.test(`a planted fault is found: ${what}`, { skip }, async (t) => {
    const directory = await scratchDirectory(t);
    await using machine = await machineOf(directory, fault);
    let found = false;
    for (let round = 0; round < FAULT_ROUNDS && !found; round += 1) {
      const findings = (await machine.cut())[kind];
      found = Array.isArray(findings) && findings.length > 0;
    }
    t.ok(found);
  });
}
