import { Command } from "commander";
import { TidemarkError } from "../../model/errors.js";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";
import { parseDisk } from "../parse-disk.js";

interface Options {
  readonly disk: readonly string[];
}

export function vmSeedCommand(): Command {
  return new Command("seed")
    .description("begin a VM's first copy from existing disks (on the replica)")
    .argument("<vm>", "its name or id")
    .requiredOption(
      "--disk <disk...>",
      "NAME=PATH: the VM's disk, and a raw image or device like it",
    )
    .action(async (vm: string, options: Options, command: Command) => {
      const disks = options.disk.map(seedOf);
      const reply = await clientOf(command).call("vmSeed", { disks }, { vm });
      if (globalOptions(command).json) return printJson(reply);
      process.stdout.write(`The first copy of ${vm} begins from ${disks.length} existing disks.\n`);
    });
}

function seedOf(text: string): { readonly name: string; readonly path: string } {
  const { name, path } = parseDisk(text);
  if (name !== undefined) return { name, path };
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot use ${JSON.stringify(text)} as a disk: because it is not like vda=/PATH.`,
  );
}
