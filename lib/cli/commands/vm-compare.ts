import { setTimeout as sleep } from "node:timers/promises";
import { Command, Option } from "commander";
import type { VmStatus } from "../../management/schemas.js";
import { clientOf, globalOptions } from "../context.js";
import { comparisonLines } from "../comparison-lines.js";
import { printJson } from "../output.js";

const POLL_MS = 250;

interface Options {
  readonly repair?: true;
  readonly status?: true;
  readonly stop?: true;
}

/** Exit status 1 when something differs that is not repaired. */
export function vmCompareCommand(): Command {
  return new Command("compare")
    .description("compare a running VM's disks with its replica by hashes (on the primary)")
    .argument("<vm>", "its name or id, or VM@TARGET")
    .option("--repair", "what differs is sent again with the next recovery point")
    .addOption(new Option("--status", "show the last one, and begin nothing").conflicts("repair"))
    .addOption(new Option("--stop", "stop the one under way").conflicts(["repair", "status"]))
    .action(async (vm: string, options: Options, command: Command) => {
      const report = (await act(command, vm, options)).relationship?.comparison ?? null;
      if (report !== null && report.differingBytes > 0 && !report.isRepair) process.exitCode = 1;
      if (globalOptions(command).json) return printJson(report);
      const lines = report === null ? ["No comparison was made yet."] : comparisonLines(report);
      process.stdout.write(`${lines.join("\n")}\n`);
    });
}

async function act(command: Command, vm: string, options: Options): Promise<VmStatus> {
  const client = clientOf(command);
  if (options.status === true) return client.call("vmStatus", {}, { vm });
  if (options.stop === true) return client.call("comparisonStop", {}, { vm });
  let status = await client.call("comparisonStart", { isRepair: options.repair ?? false }, { vm });
  while (status.relationship?.comparison?.state === "running") {
    await sleep(POLL_MS);
    status = await client.call("vmStatus", {}, { vm });
  }
  return status;
}
