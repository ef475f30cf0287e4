import { Command } from "commander";
import { clientOf, globalOptions, tidemarkHere } from "../context.js";
import { printJson } from "../output.js";

interface Options {
  readonly force?: boolean;
}

export function vmCancelFailoverCommand(): Command {
  return new Command("cancel-failover")
    .description(
      "on the replica: drop what the VM wrote since it was failed over, and give it back; on the primary: take a planned failover back that is under way",
    )
    .argument("<vm>", "its name or id")
    .option("--force", "cut off a guest that has its disks open still")
    .action(async (name: string, { force = false }: Options, command: Command) => {
      const vm = await clientOf(command).call("failoverCancel", { force }, { vm: name });
      if (globalOptions(command).json) return printJson(vm);
      process.stdout.write(
        vm.role === "replica"
          ? `${vm.name} is given back: what it wrote here is gone, and its primary may go on.\n`
          : `${vm.name} is being taken back; \`${tidemarkHere(command)} vm status ${vm.name}\` shows when it is served again.\n`,
      );
    });
}
