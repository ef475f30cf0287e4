import { Command } from "commander";
import { clientOf, globalOptions, tidemarkHere } from "../context.js";
import { formatTime, printJson, printTable } from "../output.js";
import { POINT_NAMES, resolvePoint } from "../resolve-point.js";
import { warnIfDamaged } from "../warn-if-damaged.js";

export function vmOpenCommand(): Command {
  return new Command("open")
    .description("serve a recovery point's disks read-only, for a backup of them (on the replica)")
    .argument("<vm>", "its name or id")
    .requiredOption("--read-only", "nothing can be written; test-failover is what is for that")
    .option("--point <point>", `which recovery point: ${POINT_NAMES}`)
    .action(async (vm: string, options: { readonly point?: string }, command: Command) => {
      const pointId = await resolvePoint(command, vm, options.point);
      const body = pointId === undefined ? {} : { pointId };
      const client = clientOf(command);
      const opened = await client.call("readOnlyOpen", body, { vm });
      await warnIfDamaged(client, vm, opened.point.sequence);
      if (globalOptions(command).json) return printJson(opened);
      const { sequence, takenAtMs } = opened.point;
      process.stdout.write(
        `Recovery point ${sequence} of ${formatTime(takenAtMs)} is served read-only:\n\n`,
      );
      printTable(
        ["DISK", "NBD URI"],
        opened.disks.map((disk) => [disk.name, disk.uri]),
      );
      process.stdout.write(`\nEnd it with: ${tidemarkHere(command)} vm close ${opened.exportId}\n`);
    });
}
