import { Command } from "commander";
import type { ApiClient } from "../../management/api-client.js";
import type {
  FailoverLossBody,
  GroupOrderReportBody,
} from "../../management/group-failover-schemas.js";
import { clientOf, globalOptions, parseWholeNumber, tidemarkHere } from "../context.js";
import { againLine, reportFailedMembers, succeeded } from "../group-order-lines.js";
import { formatDuration, formatTime, printJson, printTable } from "../output.js";

interface Options {
  readonly cut?: string;
  readonly force?: boolean;
}

export function groupFailoverCommand(): Command {
  return new Command("failover")
    .description(
      "run all VMs of a group from one cut because their primary is lost (on the replica)",
    )
    .argument("<group>", "its name or id")
    .option("--cut <number>", "from which cut; the newest complete one by default")
    .option("--force", "also while the primary seems to live")
    .action(async (group: string, { cut, force = false }: Options, command: Command) => {
      const client = clientOf(command);
      const cutNumber =
        cut === undefined ? {} : { cutNumber: parseWholeNumber(cut, "a cut's number") };
      const body = { ...cutNumber, force };
      const report = await client.call("groupFailover", body, { group });
      if (globalOptions(command).json) printJson(report);
      else await printReport(client, command, report);
      reportFailedMembers(report);
    });
}

async function printReport(
  client: ApiClient,
  command: Command,
  report: GroupOrderReportBody,
): Promise<void> {
  const { group, cut } = report;
  process.stdout.write(
    `Group ${group} runs here now, from cut ${cut?.cutNumber ?? "-"} of ${formatTime(cut?.takenAtMs ?? 0)}:\n\n`,
  );
  const rows: string[][] = [];
  for (const { vmId, name, loss } of succeeded(report)) {
    const { disks } = await client.call("vmStatus", {}, { vm: vmId });
    for (const disk of disks) rows.push([name, lossText(loss), disk.name, disk.uri ?? "-"]);
  }
  printTable(["VM", "LOST", "DISK", "REACHED AT"], rows);
  const end = againLine(command, report);
  process.stdout.write(
    `\n${end}The primary's writes are refused from now on. To go back: ${tidemarkHere(command)} group cancel-failover ${group}\n`,
  );
}

function lossText(loss: FailoverLossBody | null): string {
  return loss === null ? "(done before)" : `at most ${formatDuration(loss.atMostMs)}`;
}
