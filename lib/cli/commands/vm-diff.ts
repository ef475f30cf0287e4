import { Command } from "commander";
import type { PointDifferenceBody } from "../../management/copy-schemas.js";
import { clientOf, globalOptions, parseWholeNumber } from "../context.js";
import { formatBytes, printJson, printTable } from "../output.js";

interface Options {
  readonly from: string;
  readonly to: string;
  readonly content?: true;
  readonly extents?: true;
}

export function vmDiffCommand(): Command {
  return new Command("diff")
    .description("show what changed between two recovery points (on the replica)")
    .argument("<vm>", "its name or id")
    .requiredOption("--from <number>", "the one point")
    .requiredOption("--to <number>", "the other")
    .option("--content", "compare the bytes, too: what was written may be what was there")
    .option("--extents", "list where")
    .action(async (vm: string, options: Options, command: Command) => {
      const reply = await clientOf(command).call(
        "pointDifference",
        {
          fromSequence: parseWholeNumber(options.from, "a point's number"),
          toSequence: parseWholeNumber(options.to, "a point's number"),
          withContent: options.content ?? false,
        },
        { vm },
      );
      if (globalOptions(command).json) return printJson(reply);
      printDisks(reply);
      if (options.extents === true) printExtents(reply);
    });
}

function printDisks({ disks, changedBytes, differingBytes }: PointDifferenceBody): void {
  const bytes = (value: number | null) => (value === null ? "-" : formatBytes(value));
  printTable(
    ["DISK", "SIZE FROM", "SIZE TO", "WRITTEN", "DIFFERS"],
    [
      ...disks.map((disk) => [
        disk.name,
        formatBytes(disk.fromSizeBytes),
        formatBytes(disk.toSizeBytes),
        bytes(disk.changedBytes),
        bytes(disk.differingBytes),
      ]),
      ["all", "", "", bytes(changedBytes), bytes(differingBytes)],
    ],
  );
}

function printExtents({ disks }: PointDifferenceBody): void {
  process.stdout.write("\n");
  for (const { name, extents, isCutOff } of disks) {
    for (let i = 0; i + 1 < extents.length; i += 2) {
      process.stdout.write(`${name} ${extents[i] ?? 0} ${extents[i + 1] ?? 0}\n`);
    }
    if (isCutOff) process.stdout.write(`${name} and more: the list was cut off\n`);
  }
}
