import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";

export function vmDeleteReplicaCommand(): Command {
  return new Command("delete-replica")
    .description("delete a replica that is kept here, with all its recovery points")
    .argument("<vm>", "its name or id")
    .action(async (vm: string, _options: object, command: Command) => {
      const reply = await clientOf(command).call("replicaDelete", {}, { vm });
      if (globalOptions(command).json) return printJson(reply);
      process.stdout.write(`Deleted the replica of ${vm}.\n`);
    });
}
