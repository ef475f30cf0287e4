import { Command } from "commander";
import { clientOf, globalOptions, tidemarkHere } from "../context.js";
import { formatBytes, formatTime, printJson, printTable, shellWord } from "../output.js";

interface BeginOptions {
  readonly changesOnly?: boolean;
}

export function backupBeginCommand(): Command {
  return new Command("begin")
    .description("freeze a VM's disks at one instant, and serve them for reading; the VM runs on")
    .argument("<vm>", "the VM's name or id")
    .argument("<bitmap>", "whose changes are shown")
    .option(
      "--changes-only",
      "freeze only what the bitmap has: fewer blocks are copied, other reads fail",
    )
    .action(async (vm: string, bitmap: string, options: BeginOptions, command: Command) => {
      const scope = options.changesOnly === true ? "changes" : "disk";
      const begun = await clientOf(command).call("backupBegin", { scope }, { vm, bitmap });
      if (globalOptions(command).json) return printJson(begun);
      process.stdout.write(
        `The disks of ${vm} as of ${formatTime(begun.takenAtMs)}, changed blocks as ${begun.context}:\n\n`,
      );
      printTable(
        ["DISK", "CHANGED", "NBD URI"],
        begun.disks.map((disk) => [disk.name, formatBytes(disk.changedBytes), disk.uri]),
      );
      const tidemark = tidemarkHere(command);
      process.stdout.write(
        `\nWhen the copy is safe: ${tidemark} backup commit ${vm} ${shellWord(bitmap)}` +
          `\nElse:                  ${tidemark} backup abandon ${vm} ${shellWord(bitmap)}\n`,
      );
    });
}

const ENDS = {
  commit: {
    route: "backupCommit",
    description: "end a backup whose copy is safe: its changes are forgotten",
    done: "Committed",
  },
  abandon: {
    route: "backupAbandon",
    description: "end a backup without a copy: its changes count again",
    done: "Abandoned",
  },
} as const;

export function backupEndCommand(name: keyof typeof ENDS): Command {
  const { route, description, done } = ENDS[name];
  return new Command(name)
    .description(description)
    .argument("<vm>", "the VM's name or id")
    .argument("<bitmap>", "whose backup")
    .action(async (vm: string, bitmap: string, _options: object, command: Command) => {
      const reply = await clientOf(command).call(route, {}, { vm, bitmap });
      if (globalOptions(command).json) return printJson(reply);
      process.stdout.write(`${done} the backup of ${bitmap} of ${vm}.\n`);
    });
}
