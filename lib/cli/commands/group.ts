import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { formatTime, printJson, printTable } from "../output.js";

export function groupListCommand(): Command {
  return new Command("list")
    .description("show the consistency groups that are cut on this host")
    .action(async (_options: object, command: Command) => {
      const groups = await clientOf(command).call("groupList", {});
      if (globalOptions(command).json) return printJson(groups);
      if (groups.length === 0) {
        process.stdout.write("No consistency groups. Make one: tidemark vm group VM GROUP\n");
        return;
      }
      printTable(
        ["GROUP", "VMS", "CUTS", "INCOMPLETE", "LAST CUT", "PAUSE p99 ms"],
        groups.map(({ name, vmIds, cutCount, incompleteCutCount, lastCut, pauses }) => [
          name,
          vmIds.length,
          cutCount,
          incompleteCutCount,
          lastCut?.cutNumber ?? "-",
          (pauses.p99Ns / 1e6).toFixed(2),
        ]),
      );
    });
}

export function groupPointsCommand(): Command {
  return new Command("points")
    .description("list a group's cuts and which recovery points belong together (on the replica)")
    .argument("<group>", "its name or id")
    .action(async (group: string, _options: object, command: Command) => {
      const cuts = await clientOf(command).call("groupPointList", {}, { group });
      if (globalOptions(command).json) return printJson(cuts);
      if (cuts.length === 0) {
        process.stdout.write("No recovery points of that group here.\n");
        return;
      }
      printTable(
        ["CUT", "TAKEN", "COMPLETE", "VM", "POINT"],
        cuts.flatMap(({ cutNumber, takenAtMs, isComplete, points }) =>
          points.map(({ vmId, pointId }) => [
            cutNumber,
            formatTime(takenAtMs),
            isComplete ? "yes" : "no",
            vmId,
            pointId ?? "-",
          ]),
        ),
      );
    });
}
