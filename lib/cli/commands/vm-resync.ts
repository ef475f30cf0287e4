import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";

export function vmResyncCommand(): Command {
  return new Command("resync")
    .description("compare what is suspect with the replica now, whatever the policy says")
    .argument("<vm>", "its name or id, or VM@TARGET")
    .action(async (vm: string, _options: object, command: Command) => {
      const status = await clientOf(command).call("vmResync", {}, { vm });
      if (globalOptions(command).json) return printJson(status);
      process.stdout.write(`${vm} is compared with its replica.\n`);
    });
}
