import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";

export function pointDeleteCommand(): Command {
  return new Command("delete")
    .description("give up a recovery point; the others stay as they are")
    .argument("<vm>", "the VM's name or id")
    .argument("<point>", "the point's number or id; not the newest")
    .action(async (vm: string, point: string, _options: object, command: Command) => {
      const reply = await clientOf(command).call("pointDelete", {}, { vm, point });
      if (globalOptions(command).json) return printJson(reply);
      process.stdout.write(`Deleted recovery point ${point} of ${vm}.\n`);
    });
}
