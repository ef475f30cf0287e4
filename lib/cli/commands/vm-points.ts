import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { formatMib, formatTime, printJson, printTable } from "../output.js";

export function vmPointsCommand(): Command {
  return new Command("points")
    .description("list a VM's recovery points, newest last (on the replica)")
    .argument("<vm>", "its name or id")
    .action(async (name: string, _options: object, command: Command) => {
      const points = await clientOf(command).call("pointList", {}, { vm: name });
      if (globalOptions(command).json) return printJson(points);
      if (points.length === 0) {
        process.stdout.write("No recovery points yet: the initial replication has not ended.\n");
        return;
      }
      const isGrouped = points.some(({ group }) => group !== undefined);
      printTable(
        ["NUMBER", "POINT", "TAKEN", "CONSISTENCY", "CHANGED MiB"].concat(
          isGrouped ? "GROUP CUT" : [],
        ),
        points.map((point) => [
          point.sequence,
          point.pointId,
          formatTime(point.takenAtMs),
          point.consistency,
          formatMib(point.changedBytes),
          ...(isGrouped ? [cutName(point.group)] : []),
        ]),
      );
    });
}

function cutName(group: { readonly name: string; readonly cutNumber: number } | undefined): string {
  return group === undefined ? "-" : `${group.name}/${group.cutNumber}`;
}
