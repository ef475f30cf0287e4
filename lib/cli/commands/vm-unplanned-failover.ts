import { Command } from "commander";
import { clientOf, globalOptions, tidemarkHere } from "../context.js";
import { printJson } from "../output.js";
import { printServedDisks } from "../served-disks.js";
import { POINT_NAMES, resolvePoint } from "../resolve-point.js";

interface Options {
  readonly point?: string;
  readonly force?: true;
}

/** "vm failover" */
export function vmUnplannedFailoverCommand(): Command {
  return new Command("failover")
    .description("run a VM from its replica because its primary is lost (on the replica)")
    .argument("<vm>", "its name or id")
    .option("--point <point>", `from which recovery point: ${POINT_NAMES}`)
    .option("--force", "also while the primary seems to live")
    .action(async (name: string, options: Options, command: Command) => {
      const client = clientOf(command);
      const pointId = await resolvePoint(command, name, options.point);
      const force = options.force ?? false;
      const request = pointId === undefined ? { force } : { pointId, force };
      const vm = await client.call("failover", request, { vm: name });
      if (globalOptions(command).json) return printJson(vm);
      process.stdout.write(
        `${vm.name} runs here now, as generation ${vm.promotion?.generationNumber ?? "-"}:\n\n`,
      );
      printServedDisks(vm);
      process.stdout.write(
        `\nThe primary's writes are refused from now on. To go back: ${tidemarkHere(command)} vm cancel-failover ${vm.name}\n`,
      );
    });
}
