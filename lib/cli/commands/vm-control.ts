import { Command } from "commander";
import { clientOf } from "../context.js";
import { addSelector, printOutcomes, type SelectorOptions, selectorOf } from "../select-vms.js";

const CONTROLS = {
  suspend: {
    route: "vmSuspendMany",
    description: "suspend VMs' replication; changes are still tracked",
    done: "Suspended",
  },
  resume: {
    route: "vmResumeMany",
    description: "resume VMs' replication where it left off, also after an error",
    done: "Resumed",
  },
} as const;

export function vmControlCommand(name: keyof typeof CONTROLS): Command {
  const { route, description, done } = CONTROLS[name];
  return addSelector(new Command(name).description(description)).action(
    async (vms: readonly string[], options: SelectorOptions, command: Command) => {
      const outcomes = await clientOf(command).call(route, selectorOf(vms, options));
      printOutcomes(command, outcomes, done);
    },
  );
}
