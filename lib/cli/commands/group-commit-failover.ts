import { Command } from "commander";
import { clientOf, globalOptions, tidemarkHere } from "../context.js";
import { againLine, reportFailedMembers, succeeded } from "../group-order-lines.js";
import { counted, printJson } from "../output.js";

interface Options {
  readonly yes?: true;
}

export function groupCommitFailoverCommand(): Command {
  return new Command("commit-failover")
    .description(
      "complete the failover of all VMs of a group: their recovery points are given up, and their disks become plain ones while they run (on the replica)",
    )
    .argument("<group>", "its name or id")
    .option("--yes", "do it; without this, say what would be given up")
    .action(async (group: string, { yes }: Options, command: Command) => {
      const client = clientOf(command);
      if (yes !== true) {
        const cuts = await client.call("groupPointList", {}, { group });
        const vmCount = cuts.at(-1)?.points.length ?? 0;
        process.stdout.write(
          `This gives up all recovery points of ${counted(vmCount, "VM")} of group ${group}, ${counted(cuts.length, "cut")} among them, and cannot be undone.\nTo do it: ${tidemarkHere(command)} group commit-failover ${group} --yes\n`,
        );
        return;
      }
      const report = await client.call("groupFailoverCommit", {}, { group });
      if (globalOptions(command).json) printJson(report);
      else {
        for (const { name } of succeeded(report)) process.stdout.write(`${name} stays here.\n`);
        process.stdout.write(againLine(command, report));
        process.stdout.write(
          `Their disks become plain files while they run; \`${tidemarkHere(command)} vm status\` shows how far they are.\n`,
        );
      }
      reportFailedMembers(report);
    });
}
