import { Command, Option } from "commander";
import { clientOf, globalOptions, tidemarkHere } from "../context.js";
import { formatBytes, formatTime, printJson, printTable, shellWord } from "../output.js";

interface AddOptions {
  readonly start: "all" | "allocated" | "nothing";
}

export function bitmapAddCommand(): Command {
  return new Command("add")
    .description("add a bitmap to each of a VM's disks that has none of the name; the VM runs on")
    .argument("<vm>", "the VM's name or id")
    .argument("<bitmap>", "any name of up to 255 bytes")
    .addOption(
      new Option("--start <what>", "what counts as changed from the start")
        .choices(["all", "allocated", "nothing"])
        .default("all"),
    )
    .action(async (vm: string, bitmap: string, { start }: AddOptions, command: Command) => {
      const body = { name: bitmap, start };
      const added = await clientOf(command).call("bitmapAdd", body, { vm });
      if (globalOptions(command).json) return printJson(added);
      process.stdout.write(
        `Bitmap ${bitmap} is on ${added.disks.map((disk) => disk.name).join(", ")} of ${vm}. ` +
          `Begin a backup with: ${tidemarkHere(command)} backup begin ${vm} ${shellWord(bitmap)}\n`,
      );
    });
}

export function bitmapListCommand(): Command {
  return new Command("list")
    .description("list the bitmaps that backup tools have on a VM's disks")
    .argument("<vm>", "the VM's name or id")
    .action(async (vm: string, _options: object, command: Command) => {
      const bitmaps = await clientOf(command).call("bitmapList", {}, { vm });
      if (globalOptions(command).json) return printJson(bitmaps);
      if (bitmaps.length === 0) {
        process.stdout.write(`No bitmaps on the disks of ${vm}.\n`);
        return;
      }
      printTable(
        ["BITMAP", "DISK", "CHANGED", "BACKUP"],
        bitmaps.flatMap(({ name, disks, backup }) =>
          disks.map((disk) => [name, disk.name, formatBytes(disk.changedBytes), stateOf(backup)]),
        ),
      );
    });
}

export function bitmapRemoveCommand(): Command {
  return new Command("remove")
    .description("remove a bitmap from all of a VM's disks")
    .argument("<vm>", "the VM's name or id")
    .argument("<bitmap>", "its name")
    .action(async (vm: string, bitmap: string, _options: object, command: Command) => {
      const reply = await clientOf(command).call("bitmapRemove", {}, { vm, bitmap });
      if (globalOptions(command).json) return printJson(reply);
      process.stdout.write(`Removed bitmap ${bitmap} of ${vm}.\n`);
    });
}

interface OpenBackup {
  readonly takenAtMs: number;
  readonly brokenReason: string | null;
}

function stateOf(backup: OpenBackup | null): string {
  if (backup === null) return "-";
  if (backup.brokenReason !== null) return `broken: ${backup.brokenReason}`;
  return `open, of ${formatTime(backup.takenAtMs)}`;
}
