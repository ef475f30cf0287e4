import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";
import { parseDisk } from "../parse-disk.js";

interface Options {
  readonly disk: string;
  readonly exclude?: boolean;
}

export function vmDiskAddCommand(): Command {
  return new Command("add")
    .description("add a disk to a replicated VM: it is in the recovery points from the next one on")
    .argument("<vm>", "the VM's name or id")
    .requiredOption(
      "--disk <disk>",
      "a raw image, a block device, or an NBD URI, with NAME= before it if it is to have a name",
    )
    .option("--exclude", "serve it, and do not replicate it")
    .action(async (vm: string, options: Options, command: Command) => {
      const body = { ...parseDisk(options.disk), isExcluded: options.exclude ?? false };
      const reply = await clientOf(command).call("diskAdd", body, { vm });
      if (globalOptions(command).json) return printJson(reply);
      const added = reply.disks.at(-1);
      const what = body.isExcluded ? "It is not replicated" : "Its first copy has begun";
      process.stdout.write(
        `Added disk ${added?.name ?? ""} to ${reply.name}. ${what}. From now on the VM must reach it here:\n\n${added?.uri ?? "-"}\n`,
      );
    });
}
