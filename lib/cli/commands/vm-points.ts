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
      printTable(
        ["NUMBER", "POINT", "TAKEN", "CONSISTENCY", "CHANGED MiB", "GROUP CUT"],
        points.map((point) => [
          point.sequence,
          point.pointId,
          formatTime(point.takenAtMs),
          point.consistency,
          formatMib(point.changedBytes),
          point.group === undefined ? "-" : `${point.group.name}/${point.group.cutNumber}`,
        ]),
      );
    });
}
