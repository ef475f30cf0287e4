import { Command } from "commander";
import { globalOptions } from "../context.js";
import type { LocalCommands } from "../local-commands.js";
import { untilSignal } from "../until-signal.js";

export function demoCommand(local: LocalCommands): Command {
  return new Command("demo")
    .description("two hosts on loopback, a VM under load, replication, failovers that are checked")
    .option("--once", "run the story to its end and exit; without it, replicate until Ctrl-C")
    .option(
      "--work-dir <dir>",
      "where the demonstration keeps its files (default: a temporary directory)",
    )
    .option("--keep", "keep the files")
    .action(
      async (options: { once?: boolean; workDir?: string; keep?: boolean }, command: Command) => {
        const { json } = globalOptions(command);
        await untilSignal((signal) =>
          local.demo(
            {
              once: options.once ?? false,
              directory: options.workDir ?? null,
              keep: options.keep ?? false,
              json,
            },
            signal,
          ),
        );
      },
    );
}
