import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";

const WHAT = {
  pin: "keep a recovery point, whatever retention and quotas say",
  unpin: "leave a recovery point to retention again",
} as const;

export function pointPinCommand(name: keyof typeof WHAT): Command {
  return new Command(name)
    .description(WHAT[name])
    .argument("<vm>", "the VM's name or id")
    .argument("<point>", "the point's number or id")
    .action(async (vm: string, point: string, _options: object, command: Command) => {
      const body = { isPinned: name === "pin" };
      const kept = await clientOf(command).call("pointEdit", body, { vm, point });
      if (globalOptions(command).json) return printJson(kept);
      const state = kept.isPinned ? "pinned" : "not pinned any more";
      process.stdout.write(`Recovery point ${kept.sequence} of ${vm} is ${state}.\n`);
    });
}
