import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";

const CONTROLS = {
  suspend: {
    route: "vmSuspend",
    description: "suspend a VM's replication; changes are still tracked",
    done: "Suspended",
  },
  resume: {
    route: "vmResume",
    description: "resume a VM's replication where it left off, also after an error",
    done: "Resumed",
  },
  remove: {
    route: "vmRemove",
    description: "end a VM's replication; the replica keeps what it has",
    done: "Removed",
  },
} as const;

export function vmControlCommand(name: keyof typeof CONTROLS): Command {
  const { route, description, done } = CONTROLS[name];
  return new Command(name)
    .description(description)
    .argument("<vm>", "its name or id")
    .action(async (vm: string, _options: object, command: Command) => {
      const reply = await clientOf(command).call(route, {}, { vm });
      if (globalOptions(command).json) return printJson(reply);
      process.stdout.write(`${done} ${vm}.\n`);
    });
}
