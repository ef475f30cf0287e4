import { Command } from "commander";
import type { ApiClient } from "../../management/api-client.js";
import type { PointExportBody, VmStatus } from "../../management/schemas.js";
import { clientOf, globalOptions } from "../context.js";
import {
  counted,
  formatBytes,
  formatDuration,
  formatTime,
  printJson,
  printTable,
} from "../output.js";
import { printServedDisks } from "../served-disks.js";
import { settingsLines } from "../settings-lines.js";
import { comparisonLines } from "../comparison-lines.js";
import { openTestLines } from "../test-failover-lines.js";
import { verificationLines } from "../verification-lines.js";
import { isExtended, VM_COLUMNS, vmRows } from "../vm-table.js";

type Relationship = NonNullable<VmStatus["relationship"]>;

export function vmStatusCommand(): Command {
  return new Command("status")
    .description("show one VM, or all of them")
    .argument("[vm]", "its name or id, or VM@TARGET")
    .action(async (name: string | undefined, _options: object, command: Command) => {
      const client = clientOf(command);
      const { json } = globalOptions(command);
      if (name === undefined) {
        const vms = await client.call("vmList", {});
        if (json) return printJson(vms);
        return printTable(VM_COLUMNS, vms.flatMap(vmRows));
      }
      const vm = await client.call("vmStatus", {}, { vm: name });
      if (json) return printJson(vm);
      printVm(vm);
      for (const line of await testLines(client, vm)) process.stdout.write(`${line}\n`);
    });
}

function printVm(vm: VmStatus): void {
  printTable(VM_COLUMNS, vmRows(vm));
  process.stdout.write("\n");
  printServedDisks(vm);
  const lines = isExtended(vm)
    ? [...replicaLines(vm), "", "Replicated on from here:", ...relationshipLines(vm)]
    : [
        ...hypervisorLines(vm),
        ...relationshipLines(vm),
        ...promotionLines(vm),
        ...replicaLines(vm),
        ...vm.targets.flatMap((target) => [
          "",
          `Also replicated, as ${vm.name}@${target.name}:`,
          ...relationshipLines(target),
        ]),
      ];
  if (lines.length > 0) process.stdout.write(`\n${lines.join("\n")}\n`);
}

const HYPERVISOR_STATES: Record<NonNullable<VmStatus["hypervisor"]>["state"], string> = {
  starting: "not asked yet",
  off: "the VM is off",
  tracked: "the VM runs, and what it writes is tracked",
  bypassed: "the VM may write past Tidemark, and is not replicated",
  detached: "the VM was detached: it may run without Tidemark, and is not replicated",
};

function hypervisorLines({ hypervisor }: VmStatus): string[] {
  if (hypervisor === null) return [];
  const { state, monitorPath } = hypervisor;
  return [`QEMU at ${monitorPath}: ${HYPERVISOR_STATES[state]}`];
}

function promotionLines({ promotion, relationship, targets }: VmStatus): string[] {
  if (promotion === null) return [];
  const { cause, generationNumber, fold } = promotion;
  const folded =
    fold === null ? "" : `${formatBytes(fold.foldedBytes)} of ${formatBytes(fold.totalBytes)}`;
  return [
    ...(fold === null ? [] : [`On its way to plain disks: ${folded}`]),
    `Runs here since a ${cause.replace("-", " ")}, as generation ${generationNumber}`,
    ...(relationship === null && targets.length === 0 ? ["Health: it is not replicated."] : []),
  ];
}

async function testLines(client: ApiClient, { vmId, replica }: VmStatus): Promise<string[]> {
  if (replica?.exports.some(isTest) !== true) return [];
  const { open } = await client.call("testFailoverList", {}, { vm: vmId });
  return open.flatMap(openTestLines);
}

const isTest = ({ kind }: PointExportBody) => kind === "test-failover";

function relationshipLines({ relationship }: Pick<VmStatus, "relationship">): string[] {
  if (relationship === null) return [];
  const { cycleCount, missedCycleCount } = relationship;
  const lines = [
    ...settingsLines(relationship.settings),
    `${counted(cycleCount, "cycle")}, ${missedCycleCount} missed`,
    ...initialLines(relationship),
  ];
  const { lastCycle: last, lastError: error } = relationship;
  if (last !== null) {
    lines.push(
      `Last cycle: ${formatBytes(last.changedBytes)} changed, ${formatBytes(last.sentBytes)} sent, ${formatDuration(last.durationMs)}, pause ${(last.pauseNs / 1e6).toFixed(2)} ms`,
    );
  }
  lines.push(...applicationLines(relationship), ...firstCopyLines(relationship));
  lines.push(...pauseLines(relationship.pauses), ...groupLines(relationship));
  const { suspectBytes, suspicionCauses, lastHealing } = relationship;
  if (suspectBytes > 0) {
    lines.push(
      `Suspect: ${formatBytes(suspectBytes)} to be compared with the replica (${suspicionCauses.join(", ")})`,
    );
  }
  if (lastHealing !== null) {
    lines.push(
      `Compared: ${formatBytes(lastHealing.comparedBytes)}, of which ${formatBytes(lastHealing.differingBytes)} differed (${lastHealing.causes.join(", ")})`,
    );
  }
  if (relationship.comparison !== null) lines.push(...comparisonLines(relationship.comparison));
  for (const reason of relationship.healthReasons) lines.push(`Health: ${reason}`);
  if (error !== null) {
    const retry = error.retryAtMs === null ? "" : ` Next try at ${formatTime(error.retryAtMs)}.`;
    lines.push(
      `Last error: ${error.message}${error.hint === null ? "" : ` ${error.hint}`}${retry}`,
    );
  }
  return lines;
}

function initialLines({ initialProgress, state, waitsUntilMs }: Relationship): string[] {
  if (state === "ready") {
    const when =
      waitsUntilMs === null ? "is started by hand" : `starts at ${formatTime(waitsUntilMs)}`;
    return [`The first copy ${when}`];
  }
  if (initialProgress === null) return [];
  const { sentBytes, totalBytes, bytesPerSecond, remainingMs } = initialProgress;
  const percent = totalBytes === 0 ? 100 : Math.floor((100 * sentBytes) / totalBytes);
  const rate = bytesPerSecond === null ? "" : `, ${formatBytes(bytesPerSecond)}/s`;
  const left = remainingMs === null ? "" : `, ${formatDuration(remainingMs)} left`;
  return [
    `First copy: ${formatBytes(sentBytes)} of ${formatBytes(totalBytes)} (${percent} %)${rate}${left}`,
  ];
}

function applicationLines({ applicationConsistency }: Relationship): string[] {
  if (applicationConsistency === null) return [];
  const { lastPointAtMs } = applicationConsistency;
  const last = lastPointAtMs === null ? "none yet" : formatTime(lastPointAtMs);
  return [`Last application-consistent point: ${last}`];
}

function firstCopyLines({ firstCopy }: Relationship): string[] {
  if (firstCopy?.by === "medium") {
    const what = firstCopy.waitsFor === "import" ? "waits for the import of" : "is written to";
    return [`First copy: ${what} ${firstCopy.directory ?? "-"}`];
  }
  if (firstCopy?.waitsFor !== "seed") return [];
  return ["First copy: waits until `tidemark vm seed` on the replica names an existing disk"];
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
    `${counted(replica.pointCount, "recovery point")}, ${formatBytes(replica.storedBytes)} stored`,
  ];
  for (const warning of replica.warnings) lines.push(`Warning: ${warning}`);
  for (const entry of replica.exports) {
    if (isTest(entry)) continue;
    lines.push(`Open ${entry.kind} ${entry.exportId} of point ${entry.point.sequence}`);
  }
  if (replica.verification !== null) lines.push(...verificationLines(replica.verification));
  return lines;
}
