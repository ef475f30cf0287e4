import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { addOnwardOptions, type OnwardOptions, onwardRequestOf } from "../onward-options.js";
import { printJson } from "../output.js";
import { addTransferOptions } from "../replication-options.js";

export function vmExtendCommand(): Command {
  const command = new Command("extend")
    .description("replicate a VM that is kept here on to a third host (on the replica)")
    .argument("<vm>", "its name or id");
  return addTransferOptions(addOnwardOptions(command, "the third host")).action(
    async (name: string, options: OnwardOptions, self: Command) => {
      const vm = await clientOf(self).call("vmExtend", onwardRequestOf(options), { vm: name });
      if (globalOptions(self).json) return printJson(vm);
      process.stdout.write(
        `${vm.name} is replicated on to ${vm.relationship?.settings.replicaUrl ?? options.to} from now on; \`tidemark vm status ${vm.name}\` shows how far it is.\n`,
      );
    },
  );
}
