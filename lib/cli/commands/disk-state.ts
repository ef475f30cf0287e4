import { Command } from "commander";
import type { DiskState } from "../../model/disk-state.js";
import { TidemarkError } from "../../model/errors.js";
import { globalOptions } from "../context.js";
import type { LocalCommands } from "../local-commands.js";
import { formatBytes, printJson } from "../output.js";

interface Options {
  readonly bitmap?: string;
  readonly diskId?: string;
  readonly state?: string;
  readonly force?: boolean;
}

const BITMAP = [
  "--bitmap <path>",
  "the bitmap's file (default: the disk's with .tidemark)",
] as const;

/** `tidemark disk export-state` and what belongs to it: they work on files, without a host. */
export function exportStateCommand(local: LocalCommands): Command {
  return new Command("export-state")
    .description("give a closed disk's tracking to another holder; it cannot be opened here then")
    .argument("<disk>", "the disk's path")
    .argument("<file>", "where the state goes, a new file")
    .option(...BITMAP)
    .action(async (diskPath: string, statePath: string, options: Options, command: Command) => {
      const bitmapPath = options.bitmap ?? null;
      const state = await local.exportState({ diskPath, bitmapPath, statePath });
      if (globalOptions(command).json) return printJson(state);
      const text = `The state of ${diskPath} is in ${statePath}. Move it, and import it once.\n`;
      process.stdout.write(text + describe(state));
    });
}

export function importStateCommand(local: LocalCommands): Command {
  return new Command("import-state")
    .description("go on tracking a disk where another holder has left off")
    .argument("<file>", "what export-state wrote")
    .argument("<disk>", "where the disk's content is here: its path or NBD URI")
    .option(...BITMAP)
    .option("--disk-id <uuid>", "refuse the state of another disk")
    .action(async (statePath: string, diskPath: string, options: Options, command: Command) => {
      const { foundCauses } = await local.importState({
        diskPath,
        bitmapPath: options.bitmap ?? null,
        statePath,
        diskId: options.diskId ?? null,
      });
      if (globalOptions(command).json) return printJson({ foundCauses });
      process.stdout.write(
        foundCauses.length === 0
          ? `${diskPath} is tracked here now, where it was left.\n`
          : `${diskPath} is tracked here now; it is not what was exported (${foundCauses.join(", ")}): everything is compared with its replicas.\n`,
      );
    });
}

export function takeBackStateCommand(local: LocalCommands): Command {
  return new Command("take-back-state")
    .description("end an export that nobody imported")
    .argument("<disk>", "the disk's path")
    .option("--state <file>", "what export-state wrote")
    .option("--force", "without that file: everything counts as suspect")
    .option(...BITMAP)
    .action(async (diskPath: string, options: Options) => {
      if ((options.state === undefined) !== (options.force === true)) {
        throw new TidemarkError(
          "INVALID_ARGUMENT",
          `Cannot take ${diskPath} back: because it needs either --state or --force.`,
        );
      }
      const bitmapPath = options.bitmap ?? null;
      await local.takeBackState({ diskPath, bitmapPath, statePath: options.state ?? null });
      process.stdout.write(`${diskPath} may be opened here again.\n`);
    });
}

export function showStateCommand(local: LocalCommands): Command {
  return new Command("show-state")
    .description("say what a state file holds, after checking all of it")
    .argument("<file>", "what export-state wrote")
    .action(async (statePath: string, _options: Options, command: Command) => {
      const state = await local.describeState(statePath);
      if (globalOptions(command).json) return printJson(state);
      process.stdout.write(`${describe(state)}${state.stage}\n`);
    });
}

function describe(state: DiskState): string {
  const size = formatBytes(state.sizeBytes);
  const block = formatBytes(state.granularityBytes);
  return `disk ${state.diskId}, ${size}, ${block} a block; epoch ${state.epoch}; targets: ${state.targetIds.join(", ") || "none"}; named bitmaps: ${state.bitmapNames.join(", ") || "none"}\n`;
}
