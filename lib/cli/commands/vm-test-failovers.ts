import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";
import { lastTestLine, openTestLines } from "../test-failover-lines.js";

export function vmTestFailoversCommand(): Command {
  return new Command("test-failovers")
    .description("list a VM's open test failovers, and how the last one ended (on the replica)")
    .argument("<vm>", "its name or id")
    .action(async (vm: string, _options: object, command: Command) => {
      const { open, last } = await clientOf(command).call("testFailoverList", {}, { vm });
      if (globalOptions(command).json) return printJson({ open, last });
      const lines = open.flatMap(openTestLines);
      if (open.length === 0) lines.push("No test failover is open.");
      else lines.push("A restart of the service ends them, and drops what was written.");
      if (last !== null) lines.push(lastTestLine(last));
      process.stdout.write(`${lines.join("\n")}\n`);
    });
}
