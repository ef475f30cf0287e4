import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";

export function pointLabelCommand(): Command {
  return new Command("label")
    .description("say what a recovery point is; without a text its label is taken away")
    .argument("<vm>", "the VM's name or id")
    .argument("<point>", "the point's number or id")
    .argument("[text]", "up to 255 characters")
    .action(
      async (
        vm: string,
        point: string,
        text: string | undefined,
        _options: object,
        command: Command,
      ) => {
        const body = { label: text ?? null };
        const kept = await clientOf(command).call("pointEdit", body, { vm, point });
        if (globalOptions(command).json) return printJson(kept);
        const what = kept.label === null ? "has no label" : `is ${JSON.stringify(kept.label)}`;
        process.stdout.write(`Recovery point ${kept.sequence} of ${vm} ${what}.\n`);
      },
    );
}
