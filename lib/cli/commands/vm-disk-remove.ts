import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";

interface Options {
  readonly force?: boolean;
}

export function vmDiskRemoveCommand(): Command {
  return new Command("remove")
    .description("remove a disk from a replicated VM; its file stays, and older points keep it")
    .argument("<vm>", "the VM's name or id")
    .argument("<disk>", "the disk's name or id, as vdb")
    .option("--force", "although clients are connected to it: they are cut off")
    .action(async (vm: string, disk: string, options: Options, command: Command) => {
      const body = { force: options.force ?? false };
      const reply = await clientOf(command).call("diskRemove", body, { vm, disk });
      if (globalOptions(command).json) return printJson(reply);
      process.stdout.write(`Removed disk ${disk} from ${reply.name}; older points keep it.\n`);
    });
}
