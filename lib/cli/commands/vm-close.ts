import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";

export function vmCloseCommand(): Command {
  return closeCommand(
    "end a test failover, or cancel a failover: what was written to it is dropped",
  );
}

export function groupCloseCommand(): Command {
  return closeCommand("end a group's test failover for all its VMs: what was written is dropped");
}

function closeCommand(purpose: string): Command {
  return new Command("close")
    .description(purpose)
    .argument("<id>", "the id that the failover answered")
    .action(async (exportId: string, _options: object, command: Command) => {
      await clientOf(command).call("exportClose", {}, { export: exportId });
      if (globalOptions(command).json) return printJson({ exportId });
      process.stdout.write("Closed.\n");
    });
}
