import { Command } from "commander";
import type { GroupTestFailoverBody } from "../../management/test-failover-schemas.js";
import type { NewEnd } from "../../model/test-failover.js";
import { clientOf, globalOptions, parseWholeNumber } from "../context.js";
import { exportNotes } from "../export-lines.js";
import { printJson, printTable } from "../output.js";
import { prolongTest } from "../prolong-test.js";
import { formatEnd, openTestLines } from "../test-failover-lines.js";
import {
  addTestFailoverOptions,
  newEnd,
  testTerms,
  type TestFailoverOptions,
} from "../test-failover-options.js";

interface Options extends TestFailoverOptions {
  readonly cut?: string;
}

export function groupTestFailoverCommand(): Command {
  const command = new Command("test-failover")
    .description("serve all VMs of a group at one cut for a test, all or none (on the replica)")
    .argument("<group>", "its name or id")
    .option("--cut <number>", "which cut; the newest complete one by default");
  return addTestFailoverOptions(command).action(
    async (group: string, options: Options, self: Command) => {
      const end = newEnd(options);
      if (end !== null) return prolong(self, group, options, end);
      const cut =
        options.cut === undefined
          ? {}
          : { cutNumber: parseWholeNumber(options.cut, "a cut's number") };
      const body = { ...cut, ...testTerms(options) };
      const opened = await clientOf(self).call("groupTestFailover", body, { group });
      return globalOptions(self).json ? printJson(opened) : printOpened(opened);
    },
  );
}

async function prolong(self: Command, group: string, options: Options, end: NewEnd): Promise<void> {
  const open = await clientOf(self).call("groupTestFailoverList", {}, { group });
  const ids = open.map(({ testId }) => testId);
  return prolongTest(self, ids, options, end);
}

export function groupTestFailoversCommand(): Command {
  return new Command("test-failovers")
    .description("list a group's open test failovers (on the replica)")
    .argument("<group>", "its name or id")
    .action(async (group: string, _options: object, self: Command) => {
      const open = await clientOf(self).call("groupTestFailoverList", {}, { group });
      if (globalOptions(self).json) return printJson(open);
      const lines = open.flatMap(({ tests }) => tests.flatMap(openTestLines));
      process.stdout.write(`${(lines.length === 0 ? ["None is open."] : lines).join("\n")}\n`);
    });
}

function printOpened({ name, cutNumber, testId, tests }: GroupTestFailoverBody): void {
  const untilMs = tests[0]?.test.untilMs ?? null;
  process.stdout.write(
    `Cut ${cutNumber} of group ${name} is open for a test, ${formatEnd(untilMs)}:\n\n`,
  );
  printTable(
    ["VM", "POINT", "DISK", "NBD URI"],
    tests.flatMap(({ vmId, point, disks }) =>
      disks.map((disk) => [vmId, point.sequence, disk.name, disk.uri]),
    ),
  );
  for (const line of tests.flatMap(exportNotes)) process.stdout.write(`${line}\n`);
  process.stdout.write(`\nEnd it for all of them with: tidemark group close ${testId}\n`);
}
