import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";
import { qemuAt } from "../qemu-at.js";

export function vmAttachCommand(): Command {
  return new Command("attach")
    .description("have a VM write by Tidemark whenever it runs")
    .argument("<vm>", "its name or id")
    .option("--qemu-monitor <socket>", "the QMP monitor of its QEMU; default: as it was")
    .action(async (vm: string, options: { readonly qemuMonitor?: string }, command: Command) => {
      const { qemuMonitor } = options;
      const request = qemuMonitor === undefined ? {} : { hypervisor: qemuAt(qemuMonitor) };
      const status = await clientOf(command).call("vmAttach", request, { vm });
      if (globalOptions(command).json) return printJson(status);
      const isOff = status.hypervisor?.state === "off";
      process.stdout.write(
        isOff
          ? `${vm} is off. When it is started, it must reach its disks at the URIs of \`tidemark vm status ${vm}\`.\n`
          : `${vm} writes by Tidemark. What it may have written meanwhile is compared.\n`,
      );
    });
}
