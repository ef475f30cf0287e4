import { Command } from "commander";
import { TidemarkError } from "../../model/errors.js";
import { clientOf, globalOptions } from "../context.js";
import { formatBytes, printJson } from "../output.js";
import { parseSize } from "../parse-size.js";

interface Options {
  readonly reconnectClients?: boolean;
  readonly dropData?: boolean;
}

export function diskResizeCommand(): Command {
  return new Command("resize")
    .description("resize a disk under its running guest")
    .argument("<vm>", "the VM's name or id")
    .argument("<disk>", "the disk's name or id, as vda")
    .argument("<size>", "the new size, as 20GiB, or by how much, as +5GiB")
    .option(
      "--reconnect-clients",
      "end the disk's NBD connections after what is in flight: clients that reconnect see the new size",
    )
    .option("--drop-data", "for a smaller size: what lies past the new end is gone")
    .action(async (vm: string, disk: string, size: string, options: Options, command: Command) => {
      const client = clientOf(command);
      const { bytes, isRelative } = parseSize(size);
      const present = isRelative ? sizeOf(await client.call("vmStatus", {}, { vm }), disk) : 0;
      const reconnectClients = options.reconnectClients ?? false;
      const dropsData = options.dropData ?? false;
      const body = { sizeBytes: present + bytes, reconnectClients, dropsData };
      const reply = await client.call("diskResize", body, { vm, disk });
      if (globalOptions(command).json) return printJson(reply);
      const now = formatBytes(sizeOf(reply, disk));
      process.stdout.write(`Disk ${disk} of ${vm} has ${now} now; tell the guest's hypervisor.\n`);
    });
}

interface Disks {
  readonly name: string;
  readonly disks: readonly {
    readonly diskId: string;
    readonly name: string;
    readonly sizeBytes: number;
  }[];
}

function sizeOf({ name, disks }: Disks, disk: string): number {
  const found = disks.find((each) => each.name === disk || each.diskId === disk);
  if (found !== undefined) return found.sizeBytes;
  throw new TidemarkError("NOT_FOUND", `Cannot find disk ${disk} of VM ${name}.`, {
    hint: `Its disks are ${disks.map((each) => each.name).join(", ")}.`,
  });
}
