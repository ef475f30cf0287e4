import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { formatTime, printJson } from "../output.js";

interface Options {
  readonly yes?: true;
}

export function vmCommitFailoverCommand(): Command {
  return new Command("commit-failover")
    .description(
      "complete a failover: the VM's recovery points are given up, and its disks become plain ones while it runs (on the replica)",
    )
    .argument("<vm>", "its name or id")
    .option("--yes", "do it; without this, say what would be given up")
    .action(async (name: string, { yes }: Options, command: Command) => {
      const client = clientOf(command);
      if (yes !== true) {
        const points = await client.call("pointList", {}, { vm: name });
        const newest = points.at(-1);
        const last = newest === undefined ? "" : `, the newest of ${formatTime(newest.takenAtMs)}`;
        process.stdout.write(
          `This gives up ${points.length} recovery points of ${name}${last}, and cannot be undone.\nTo do it: tidemark vm commit-failover ${name} --yes\n`,
        );
        return;
      }
      const vm = await client.call("failoverCommit", {}, { vm: name });
      if (globalOptions(command).json) return printJson(vm);
      process.stdout.write(
        `${vm.name} stays here: its disks become plain files while it runs; \`tidemark vm status ${vm.name}\` shows how far they are.\n`,
      );
    });
}
