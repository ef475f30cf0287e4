import { setTimeout as sleep } from "node:timers/promises";
import { Command } from "commander";
import type { TestFailoverBody } from "../../management/test-failover-schemas.js";
import type { NewEnd } from "../../model/test-failover.js";
import { clientOf, globalOptions, tidemarkHere } from "../context.js";
import { exportNotes, printExportedDisks } from "../export-lines.js";
import { formatDuration, formatTime, printJson } from "../output.js";
import { prolongTest } from "../prolong-test.js";
import { POINT_NAMES, resolvePoint } from "../resolve-point.js";
import { checkLine, formatEnd } from "../test-failover-lines.js";
import {
  addTestFailoverOptions,
  newEnd,
  testTerms,
  type TestFailoverOptions,
} from "../test-failover-options.js";
import { warnIfDamaged } from "../warn-if-damaged.js";

const POLL_MS = 250;

interface Options extends TestFailoverOptions {
  readonly point?: string;
}

/** Exit status 1 when it was checked and is not good. */
export function vmTestFailoverCommand(): Command {
  const command = new Command("test-failover")
    .description("serve a recovery point's disks for a test; replication goes on (on the replica)")
    .argument("<vm>", "its name or id")
    .option("--point <point>", `which recovery point: ${POINT_NAMES}`);
  return addTestFailoverOptions(command).action(
    async (vm: string, options: Options, self: Command) => {
      const end = newEnd(options);
      if (end !== null) return prolong(self, vm, options, end);
      const opened = await open(self, vm, options);
      if (opened.test.check !== null && opened.test.check.state !== "good") process.exitCode = 1;
      if (globalOptions(self).json) return printJson(opened);
      printOpened(self, vm, opened);
    },
  );
}

async function open(self: Command, vm: string, options: Options): Promise<TestFailoverBody> {
  const client = clientOf(self);
  const pointId = await resolvePoint(self, vm, options.point);
  const point = pointId === undefined ? {} : { pointId };
  let opened = await client.call("testFailover", { ...point, ...testTerms(options) }, { vm });
  await warnIfDamaged(client, vm, opened.point.sequence);
  while (opened.test.check?.state === "running") {
    await sleep(POLL_MS);
    const { open: tests } = await client.call("testFailoverList", {}, { vm });
    const found = tests.find(({ exportId }) => exportId === opened.exportId);
    if (found === undefined) break;
    opened = found;
  }
  return opened;
}

async function prolong(self: Command, vm: string, options: Options, end: NewEnd): Promise<void> {
  const { open: tests } = await clientOf(self).call("testFailoverList", {}, { vm });
  const ids = tests.map(({ exportId }) => exportId);
  return prolongTest(self, ids, options, end);
}

function printOpened(command: Command, vm: string, opened: TestFailoverBody): void {
  const { exportId, point, test } = opened;
  const tidemark = tidemarkHere(command);
  process.stdout.write(
    `Recovery point ${point.sequence} of ${formatTime(point.takenAtMs)} is open for a test, ${formatEnd(test.untilMs)}:\n\n`,
  );
  printExportedDisks(opened);
  const check = test.check === null ? "" : `; ${checkLine(test.check)}`;
  const lines = [
    ...exportNotes(opened),
    "",
    `Opened in ${formatDuration(test.openingMs)}${check}`,
    `Prolong it with: ${tidemark} vm test-failover ${vm} --extend 4h --test ${exportId}`,
    `End it with: ${tidemark} vm close ${exportId}`,
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}
