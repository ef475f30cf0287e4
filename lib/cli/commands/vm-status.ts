import { Command } from "commander";
import type { VmStatus } from "../../management/schemas.js";
import { clientOf, globalOptions } from "../context.js";
import {
  formatBytes,
  formatDuration,
  formatMib,
  formatTime,
  printJson,
  printTable,
} from "../output.js";
import { VM_COLUMNS, vmRow } from "../vm-table.js";

type Relationship = NonNullable<VmStatus["relationship"]>;

export function vmStatusCommand(): Command {
  return new Command("status")
    .description("show one VM, or all of them")
    .argument("[vm]", "its name or id")
    .action(async (name: string | undefined, _options: object, command: Command) => {
      const client = clientOf(command);
      const { json } = globalOptions(command);
      if (name === undefined) {
        const vms = await client.call("vmList", {});
        if (json) return printJson(vms);
        return printTable(VM_COLUMNS, vms.map(vmRow));
      }
      const vm = await client.call("vmStatus", {}, { vm: name });
      if (json) return printJson(vm);
      printVm(vm);
    });
}

function printVm(vm: VmStatus): void {
  printTable(VM_COLUMNS, [vmRow(vm)]);
  process.stdout.write("\n");
  printTable(
    ["DISK", "SIZE", "REACHED AT"],
    vm.disks.map((disk) => [disk.name, formatBytes(disk.sizeBytes), disk.uri ?? "-"]),
  );
  const lines = [...relationshipLines(vm), ...replicaLines(vm)];
  if (lines.length > 0) process.stdout.write(`\n${lines.join("\n")}\n`);
}

function relationshipLines({ relationship }: VmStatus): string[] {
  if (relationship === null) return [];
  const lines = [
    `Replica ${relationship.settings.replicaUrl}, every ${formatDuration(relationship.settings.intervalMs)}; ${relationship.cycleCount} cycles, ${relationship.missedCycleCount} missed`,
  ];
  const { lastCycle: last, lastError: error } = relationship;
  if (last !== null) {
    lines.push(
      `Last cycle: ${formatMib(last.changedBytes)} MiB changed, ${formatMib(last.sentBytes)} MiB sent, ${formatDuration(last.durationMs)}, pause ${(last.pauseNs / 1e6).toFixed(2)} ms`,
    );
  }
  lines.push(...pauseLines(relationship.pauses), ...groupLines(relationship));
  const { suspectBytes, suspicionCauses, lastHealing } = relationship;
  if (suspectBytes > 0) {
    lines.push(
      `Suspect: ${formatBytes(suspectBytes)} to be compared with the replica (${suspicionCauses.join(", ")})`,
    );
  }
  if (lastHealing !== null) {
    lines.push(
      `Compared: ${formatMib(lastHealing.comparedBytes)} MiB, of which ${formatMib(lastHealing.differingBytes)} MiB differed (${lastHealing.causes.join(", ")})`,
    );
  }
  for (const reason of relationship.healthReasons) lines.push(`Health: ${reason}`);
  if (error !== null) {
    const retry = error.retryAtMs === null ? "" : ` Next try at ${formatTime(error.retryAtMs)}.`;
    lines.push(
      `Last error: ${error.message}${error.hint === null ? "" : ` ${error.hint}`}${retry}`,
    );
  }
  return lines;
}

function pauseLines({ count, p50Ns, p99Ns, maxNs }: Relationship["pauses"]): string[] {
  if (count === 0) return [];
  const [p50, p99, max] = [p50Ns, p99Ns, maxNs].map((ns) => (ns / 1e6).toFixed(2));
  return [`Pauses: ${count}; half under ${p50} ms, 99 % under ${p99} ms, longest ${max} ms`];
}

function groupLines({ settings, lastCycle }: Relationship): string[] {
  if (settings.group === undefined) return [];
  const cut = lastCycle?.group;
  if (cut === undefined) return [`Consistency group ${settings.group}: no common cut yet`];
  const { takenVmIds, memberVmIds, cutNumber } = cut;
  return [
    `Consistency group ${settings.group}: last cut ${cutNumber} with ${takenVmIds.length} of ${memberVmIds.length} VMs`,
  ];
}

function replicaLines({ replica }: VmStatus): string[] {
  if (replica === null) return [];
  const lines = [
    `${replica.pointCount} recovery points, ${formatBytes(replica.storedBytes)} stored`,
  ];
  for (const entry of replica.exports) {
    lines.push(`Open ${entry.kind} ${entry.exportId} of point ${entry.point.sequence}`);
  }
  return lines;
}
