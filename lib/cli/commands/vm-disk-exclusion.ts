import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";

/** "vm disk exclude" and "vm disk include". */
export function vmDiskExclusionCommand(kind: "exclude" | "include"): Command {
  const isExcluded = kind === "exclude";
  return new Command(kind)
    .description(
      isExcluded
        ? "serve a disk without replicating it: a failover has an empty one in its place"
        : "replicate a disk that was excluded: it is copied in full",
    )
    .argument("<vm>", "the VM's name or id")
    .argument("<disk>", "the disk's name or id, as vdb")
    .action(async (vm: string, disk: string, _options: object, command: Command) => {
      const reply = await clientOf(command).call("diskExclusion", { isExcluded }, { vm, disk });
      if (globalOptions(command).json) return printJson(reply);
      const now = isExcluded ? "is not replicated any more" : "is replicated";
      process.stdout.write(`Disk ${disk} of ${reply.name} ${now}.\n`);
    });
}
