import { Command } from "commander";
import { clientOf } from "../context.js";
import { addSelector, printOutcomes, type SelectorOptions, selectorOf } from "../select-vms.js";

interface Options extends SelectorOptions {
  readonly deleteReplica?: boolean;
}

export function vmRemoveCommand(): Command {
  return addSelector(
    new Command("remove").description("end VMs' replication; the replica keeps what it has"),
  )
    .option("--delete-replica", "delete the replica too, with all its recovery points")
    .action(async (vms: readonly string[], options: Options, command: Command) => {
      const { deleteReplica = false } = options;
      const body = { ...selectorOf(vms, options), deleteReplica };
      const outcomes = await clientOf(command).call("vmRemoveMany", body);
      printOutcomes(command, outcomes, "Removed");
    });
}
