import { Command } from "commander";
import { clientOf, globalOptions, tidemarkHere } from "../context.js";
import { formatTime, printJson, printTable } from "../output.js";
import { VM_COLUMNS, vmRows } from "../vm-table.js";

export function hostStatusCommand(): Command {
  return new Command("status")
    .description("show the running host and its VMs")
    .action(async (_options: object, command: Command) => {
      const status = await clientOf(command).call("hostStatus", {});
      if (globalOptions(command).json) return printJson(status);
      const tidemark = tidemarkHere(command);
      const replicas =
        status.peerAddress === null || !status.acceptsReplicas
          ? `Accepts no replicas (${tidemark} host accept-replicas on)`
          : `Accepts replicas at ${status.peerAddress}, kept in ${status.replicaRoot}`;
      const maintenance =
        status.maintenanceSinceMs === null
          ? ""
          : `In maintenance since ${formatTime(status.maintenanceSinceMs)}\n`;
      process.stdout.write(
        `Host ${status.hostName}, version ${status.version}, process ${status.processId}, since ${formatTime(status.startedAtMs)}\n` +
          `${replicas}; I/O by ${status.ioEngine}\n${maintenance}\n`,
      );
      if (status.vms.length === 0) {
        process.stdout.write(
          `No VMs yet. Enable one: ${tidemark} vm enable NAME --disk PATH --replica https://HOST:PORT\n`,
        );
        return;
      }
      printTable(VM_COLUMNS, status.vms.flatMap(vmRows));
    });
}
