import { Command } from "commander";
import { globalOptions } from "../context.js";
import type { LocalCommands } from "../local-commands.js";
import { untilSignal } from "../until-signal.js";

export function hostStartCommand(local: LocalCommands): Command {
  return new Command("start")
    .description("run the service in the foreground, until SIGINT or SIGTERM")
    .action(async (_options: object, command: Command) => {
      const { dir } = globalOptions(command);
      await untilSignal((signal) =>
        local.startHost(dir, signal, (line) => process.stdout.write(`${line}\n`)),
      );
    });
}
