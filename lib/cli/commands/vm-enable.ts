import { Command } from "commander";
import { clientOf, globalOptions, parseDurationMs, parseWholeNumber } from "../context.js";
import { parseDisk } from "../parse-disk.js";
import { printJson, printTable } from "../output.js";

interface Options {
  readonly disk: readonly string[];
  readonly replica: string;
  readonly every: string;
  readonly compression: string;
  readonly group?: string;
}

export function vmEnableCommand(): Command {
  return new Command("enable")
    .description("track a VM's disks and replicate them")
    .argument("<vm>", "the VM's name")
    .requiredOption(
      "--disk <disk...>",
      "a raw image, a block device, or an NBD URI, each with NAME= before it if it is to have a name",
    )
    .requiredOption("--replica <url>", "the replica host, https://HOST:PORT")
    .option("--every <duration>", "the interval of the cycles, 1s to 24h", "5s")
    .option("--group <group>", "the consistency group that the VM is cut with")
    .option("--compression <level>", "zstd level, 1 to 19", "1")
    .action(async (name: string, options: Options, command: Command) => {
      const vm = await clientOf(command).call("vmEnable", {
        name,
        disks: options.disk.map(parseDisk),
        replicaUrl: options.replica,
        intervalMs: parseDurationMs(options.every),
        ...(options.group === undefined ? {} : { group: options.group }),
        compressionLevel: parseWholeNumber(options.compression, "a compression level"),
      });
      if (globalOptions(command).json) return printJson(vm);
      process.stdout.write(
        `Replicating ${vm.name}. From now on the VM must reach its disks here:\n\n`,
      );
      printTable(
        ["DISK", "NBD URI"],
        vm.disks.map((disk) => [disk.name, disk.uri ?? "-"]),
      );
    });
}
