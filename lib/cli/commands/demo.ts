import { Command } from "commander";
import { TidemarkError } from "../../model/errors.js";
import { globalOptions } from "../context.js";
import type { LocalCommands } from "../local-commands.js";
import { parseSize } from "../parse-size.js";
import { untilSignal } from "../until-signal.js";

const SMALLEST_BYTES = 64 << 20;

interface Options {
  readonly once?: boolean;
  readonly workDir?: string;
  readonly size: string;
  readonly keep?: boolean;
}

export function demoCommand(local: LocalCommands): Command {
  return new Command("demo")
    .description("two hosts on loopback, a VM under load, replication, failovers that are checked")
    .option("--once", "run the story to its end and exit; without it, replicate until Ctrl-C")
    .option(
      "--work-dir <dir>",
      "where the demonstration keeps its files (default: a temporary directory)",
    )
    .option("--size <size>", "of the VM's disks in all, at least 64MiB", "896MiB")
    .option("--keep", "keep the files")
    .action(async (options: Options, command: Command) => {
      const demo = {
        once: options.once ?? false,
        directory: options.workDir ?? null,
        sizeBytes: parseDemoSize(options.size),
        keep: options.keep ?? false,
        json: globalOptions(command).json,
      };
      await untilSignal((signal) => local.demo(demo, signal));
    });
}

/** Less would have no room for a file system, real files and a load. */
function parseDemoSize(text: string): number {
  const { bytes, isRelative } = parseSize(text);
  if (!isRelative && bytes >= SMALLEST_BYTES) return bytes;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot make disks of ${text}: because the demonstration needs at least 64MiB.`,
  );
}
