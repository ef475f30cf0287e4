import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { addOnwardOptions, type OnwardOptions, onwardRequestOf } from "../onward-options.js";
import { printJson } from "../output.js";
import { addTransferOptions } from "../replication-options.js";

interface Options extends OnwardOptions {
  readonly name?: string;
}

export function vmAddTargetCommand(): Command {
  const command = new Command("add-target")
    .description("replicate a VM to one more host (on the primary)")
    .argument("<vm>", "its name or id");
  addOnwardOptions(command, "the host").option(
    "--name <name>",
    "what the target is called, as VM@NAME (default: the host's name)",
  );
  return addTransferOptions(command).action(
    async (name: string, options: Options, self: Command) => {
      const onward = onwardRequestOf(options);
      const request = { ...onward, ...targetNameOf(options) };
      const vm = await clientOf(self).call("vmAddTarget", request, { vm: name });
      if (globalOptions(self).json) return printJson(vm);
      const added = vm.targets.find(
        ({ relationship }) => relationship.settings.replicaUrl === onward.replicaUrl,
      );
      process.stdout.write(
        `${vm.name} is replicated to ${options.to} too from now on; \`tidemark vm status ${vm.name}@${added?.name ?? ""}\` shows how far it is.\n`,
      );
    },
  );
}

function targetNameOf({ name }: Options) {
  return name === undefined ? {} : { targetName: name };
}
