import { Command } from "commander";
import { TidemarkError } from "../../model/errors.js";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";

export function vmGroupCommand(): Command {
  return new Command("group")
    .description("cut a VM together with the others of a consistency group")
    .argument("<vm>", "its name or id")
    .argument("[group]", "the group's name; it is made when it is not there")
    .option("--leave", "leave the group that it is in")
    .action(
      async (
        vm: string,
        name: string | undefined,
        options: { readonly leave?: boolean },
        command: Command,
      ) => {
        if ((name === undefined) !== (options.leave === true)) {
          throw new TidemarkError(
            "INVALID_ARGUMENT",
            "Cannot change the VM's group: because it takes either a group's name or --leave.",
          );
        }
        const status = await clientOf(command).call("vmGroup", { group: name ?? null }, { vm });
        if (globalOptions(command).json) return printJson(status);
        process.stdout.write(
          name === undefined ? `${vm} is cut alone.\n` : `${vm} is cut with group ${name}.\n`,
        );
      },
    );
}
