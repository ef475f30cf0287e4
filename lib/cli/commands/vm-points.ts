import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { formatBytes, formatTime, printJson, printTable } from "../output.js";

export function vmPointsCommand(): Command {
  return new Command("points")
    .description("list a VM's recovery points, newest last (on the replica)")
    .argument("<vm>", "its name or id")
    .action(async (name: string, _options: object, command: Command) => {
      const client = clientOf(command);
      const points = await client.call("pointList", {}, { vm: name });
      if (globalOptions(command).json) return printJson(points);
      if (points.length === 0) {
        process.stdout.write("No recovery points yet: the initial replication has not ended.\n");
        return;
      }
      const { damagedPoints } = await client.call("verificationStatus", {}, { vm: name });
      const isGrouped = points.some(({ group }) => group !== undefined);
      const isMarked = points.some(({ label, isPinned }) => label !== null || isPinned);
      printTable(
        ["NUMBER", "POINT", "TAKEN", "CONSISTENCY", "CHANGED", "STORED"].concat(
          isGrouped ? "GROUP CUT" : [],
          damagedPoints.length > 0 ? "DAMAGED" : [],
          isMarked ? ["PINNED", "LABEL"] : [],
        ),
        points.map((point) => [
          point.sequence,
          point.pointId,
          formatTime(point.takenAtMs),
          point.consistency,
          formatBytes(point.changedBytes),
          formatBytes(point.storedBytes),
          ...(isGrouped ? [cutName(point.group)] : []),
          ...(damagedPoints.length > 0
            ? [damagedPoints.includes(point.sequence) ? "yes" : "-"]
            : []),
          ...(isMarked ? [point.isPinned ? "pinned" : "-", point.label ?? "-"] : []),
        ]),
      );
    });
}

function cutName(group: { readonly name: string; readonly cutNumber: number } | undefined): string {
  return group === undefined ? "-" : `${group.name}/${group.cutNumber}`;
}
