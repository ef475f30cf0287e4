import { Command } from "commander";
import type { VmStatus } from "../../management/schemas.js";
import { handOverEnded } from "../await-hand-over.js";
import { clientOf, globalOptions } from "../context.js";
import { formatBytes, printJson } from "../output.js";

interface Options {
  readonly force?: true;
  readonly wait: boolean;
}

export function vmPlannedFailoverCommand(): Command {
  return new Command("planned-failover")
    .description(
      "hand a VM that is shut down over to its replica, without any loss (on the primary)",
    )
    .argument("<vm>", "its name or id, or VM@TARGET")
    .option("--force", "cut off a guest that has its disks open still")
    .option("--no-wait", "return when it has begun")
    .action(async (name: string, { force, wait }: Options, command: Command) => {
      const client = clientOf(command);
      const begun = await client.call("plannedFailover", { force: force ?? false }, { vm: name });
      const vm = wait ? await handOverEnded(client, begun.name) : begun;
      if (globalOptions(command).json) return printJson(vm);
      process.stdout.write(handOverSentence(vm));
    });
}

/** What has become of it. */
export function handOverSentence({ name, relationship }: VmStatus): string {
  const pending = formatBytes(relationship?.pendingBytes ?? 0);
  switch (relationship?.state) {
    case "failed-over":
      return `${name} runs at its replica from now on; nothing was lost.\n`;
    case "handing-over":
      return `${name} is being handed over: ${pending} are still to be sent.\n`;
    default:
      return `${name} was not handed over: its state is ${relationship?.state ?? "unknown"}.\n`;
  }
}
