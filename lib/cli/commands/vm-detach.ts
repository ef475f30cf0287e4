import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";

export function vmDetachCommand(): Command {
  return new Command("detach")
    .description("have a VM run without Tidemark for a time; nothing of it is replicated meanwhile")
    .argument("<vm>", "its name or id")
    .action(async (vm: string, _options: object, command: Command) => {
      const status = await clientOf(command).call("vmDetach", {}, { vm });
      if (globalOptions(command).json) return printJson(status);
      process.stdout.write(
        `${vm} may run without Tidemark, on its images themselves. It is not replicated until \`tidemark vm attach ${vm}\`.\n`,
      );
    });
}
