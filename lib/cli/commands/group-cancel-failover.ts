import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { againLine, reportFailedMembers, succeeded } from "../group-order-lines.js";
import { printJson } from "../output.js";

interface Options {
  readonly force?: boolean;
}

export function groupCancelFailoverCommand(): Command {
  return new Command("cancel-failover")
    .description(
      "on the replica: drop what the group's VMs wrote since they were failed over, and give them back; on the primary: take planned failovers back that are under way",
    )
    .argument("<group>", "its name or id")
    .option("--force", "cut off guests that have their disks open still")
    .action(async (group: string, { force = false }: Options, command: Command) => {
      const report = await clientOf(command).call("groupFailoverCancel", { force }, { group });
      if (globalOptions(command).json) printJson(report);
      else {
        for (const { name, outcome } of succeeded(report)) {
          const text = outcome === "done" ? "is given back" : "is not failed over";
          process.stdout.write(`${name} ${text}.\n`);
        }
        process.stdout.write(againLine(command, report));
      }
      reportFailedMembers(report);
    });
}
