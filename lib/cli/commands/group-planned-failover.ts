import { Command } from "commander";
import { handOverEnded } from "../await-hand-over.js";
import { clientOf, globalOptions } from "../context.js";
import { againLine, reportFailedMembers, succeeded } from "../group-order-lines.js";
import { printJson } from "../output.js";
import { handOverSentence } from "./vm-planned-failover.js";

interface Options {
  readonly force?: true;
  readonly wait: boolean;
}

export function groupPlannedFailoverCommand(): Command {
  return new Command("planned-failover")
    .description(
      "hand all VMs of a group that are shut down over to their replicas, without any loss (on the primary)",
    )
    .argument("<group>", "its name")
    .option("--force", "cut off guests that have their disks open still")
    .option("--no-wait", "return when it has begun")
    .action(async (group: string, { force, wait }: Options, command: Command) => {
      const client = clientOf(command);
      const body = { force: force ?? false };
      const report = await client.call("groupPlannedFailover", body, { group });
      const { json } = globalOptions(command);
      for (const { vmId } of succeeded(report)) {
        const vm = await (wait
          ? handOverEnded(client, vmId)
          : client.call("vmStatus", {}, { vm: vmId }));
        if (!json) process.stdout.write(handOverSentence(vm));
      }
      process.stdout.write(json ? "" : againLine(command, report));
      if (json) printJson(report);
      reportFailedMembers(report);
    });
}
