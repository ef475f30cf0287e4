import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { formatTime, printJson } from "../output.js";
import { parseTimeMs } from "../parse-time.js";

export function initialStartCommand(): Command {
  return new Command("start")
    .description("start it, or say when it is to start")
    .argument("<vm>", "its name or id, or VM@TARGET")
    .option("--at <time>", "now, +8h or 2026-11-23T22:00; at most 7 days from now", "now")
    .action(async (vm: string, { at }: { readonly at: string }, command: Command) => {
      const body = at === "now" ? {} : { startAtMs: parseTimeMs(at) };
      const status = await clientOf(command).call("initialStart", body, { vm });
      if (globalOptions(command).json) return printJson(status);
      const when = body.startAtMs === undefined ? "now" : `at ${formatTime(body.startAtMs)}`;
      process.stdout.write(`The first copy of ${vm} starts ${when}.\n`);
    });
}

export function initialCancelCommand(): Command {
  return new Command("cancel")
    .description("give up what was copied; it may be started again")
    .argument("<vm>", "its name or id, or VM@TARGET")
    .action(async (vm: string, _options: object, command: Command) => {
      const status = await clientOf(command).call("initialCancel", {}, { vm });
      if (globalOptions(command).json) return printJson(status);
      process.stdout.write(`The first copy of ${vm} is cancelled; changes are still tracked.\n`);
    });
}
