import { Command } from "commander";
import type { EnablePlanBody } from "../../management/dry-run-schemas.js";
import type { RouteBodyInput } from "../../management/routes.js";
import type { VmStatus } from "../../management/schemas.js";
import { TidemarkError } from "../../model/errors.js";
import { clientOf, globalOptions } from "../context.js";
import { addMediaOptions, type MediaOptions, mediumOf } from "../media-options.js";
import { parseDisk } from "../parse-disk.js";
import { formatBytes, formatDuration, printJson, printTable } from "../output.js";
import { qemuAt } from "../qemu-at.js";
import { parsePeerUrl } from "../parse-peer-url.js";
import { parseTimeMs } from "../parse-time.js";
import {
  addReplicationOptions,
  type ReplicationOptions,
  settingsOf,
} from "../replication-options.js";

interface Options extends ReplicationOptions, MediaOptions {
  readonly disk: readonly string[];
  readonly exclude?: readonly string[];
  readonly qemuMonitor?: string;
  readonly replica: string;
  readonly proxy?: string;
  readonly group?: string;
  readonly initial: string;
  readonly dryRun?: boolean;
}

export function vmEnableCommand(): Command {
  const command = new Command("enable")
    .description("track a VM's disks and replicate them")
    .argument("<vm>", "the VM's name")
    .requiredOption(
      "--disk <disk...>",
      "a raw image, a block device, or an NBD URI, each with NAME= before it if it is to have a name",
    )
    .option(
      "--qemu-monitor <socket>",
      "the QMP monitor of its QEMU: while the VM runs, its disks are moved to Tidemark",
    )
    .option("--exclude <name...>", "disks, by name, that are served and not replicated")
    .requiredOption(
      "--replica <url>",
      "the replica host: its name, HOST:PORT, or https://HOST:PORT",
    )
    .option("--proxy <url>", "a proxy on the way that knows CONNECT, http://HOST:PORT")
    .option("--group <group>", "the consistency group that the VM is cut with")
    .option(
      "--initial <how>",
      "the first copy: now, +8h, 2026-11-23T22:00 or manual; media (with --out); existing (with `vm seed` on the replica)",
      "now",
    )
    .option("--dry-run", "say what would happen, and change nothing");
  return addMediaOptions(addReplicationOptions(command)).action(
    async (name: string, options: Options, self: Command) => {
      const request = await requestOf(name, options);
      if (options.dryRun === true) return dryRun(self, request);
      const vm = await clientOf(self).call("vmEnable", request);
      if (globalOptions(self).json) return printJson(vm);
      process.stdout.write(`Replicating ${vm.name}. ${nextStep(vm)}\n\n`);
      printTable(
        ["DISK", "NBD URI"],
        vm.disks.map((disk) => [disk.name, disk.uri ?? "-"]),
      );
    },
  );
}

function nextStep({ hypervisor }: VmStatus): string {
  if (hypervisor === null) return "From now on the VM must reach its disks here:";
  if (hypervisor.state === "off") return "The VM is off. When it is started, give it these disks:";
  return "It runs, and writes to its disks by these exports from now on:";
}

async function requestOf(name: string, options: Options): Promise<RouteBodyInput<"vmEnable">> {
  const { replica, proxy, group, qemuMonitor } = options;
  return {
    name,
    disks: disksOf(options),
    ...(qemuMonitor === undefined ? {} : { hypervisor: qemuAt(qemuMonitor) }),
    replicaUrl: parsePeerUrl(replica),
    ...settingsOf(options),
    ...(proxy === undefined ? {} : { proxyUrl: proxy }),
    ...(group === undefined ? {} : { group }),
    ...(await firstCopyOf(options)),
  };
}

async function firstCopyOf(
  options: Options,
): Promise<Pick<RouteBodyInput<"vmEnable">, "firstCopy" | "initialStartAtMs">> {
  const { initial } = options;
  if (initial === "media") return { firstCopy: await mediumOf(options) };
  if (initial === "existing") return { firstCopy: { by: "seed" } };
  if (options.out !== undefined) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "Cannot write a medium: because the first copy goes over the network.",
      { hint: "Give --initial media." },
    );
  }
  if (initial === "now") return {};
  return { initialStartAtMs: initial === "manual" ? null : parseTimeMs(initial) };
}

function disksOf({ disk, exclude = [] }: Options) {
  const disks = disk.map(parseDisk);
  const unknown = exclude.find((name) => !disks.some((one) => one.name === name));
  if (unknown === undefined) {
    return disks.map((one) => ({ ...one, isExcluded: exclude.includes(one.name ?? "") }));
  }
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot exclude ${unknown}: because no --disk has that name.`,
    { hint: "Name the disk, as in --disk swap=/PATH --exclude swap." },
  );
}

async function dryRun(command: Command, request: RouteBodyInput<"vmEnable">): Promise<void> {
  const plan = await clientOf(command).call("vmEnableDryRun", request);
  if (plan.refusals.length > 0) process.exitCode = 1;
  if (globalOptions(command).json) return printJson(plan);
  printTable(
    ["DISK", "SIZE", "ALLOCATED"],
    plan.disks.map((disk) => [
      disk.name ?? disk.path,
      formatBytes(disk.sizeBytes),
      formatBytes(disk.allocatedBytes),
    ]),
  );
  process.stdout.write(`\n${describe(plan).join("\n")}\n`);
}

function describe(plan: EnablePlanBody): string[] {
  const { measured, estimatedSendBytes, estimatedDurationMs, peer, refusals } = plan;
  const lines = refusals.map(
    ({ code, message, hint }) => `Refused: ${message}${hint === null ? "" : ` ${hint}`} [${code}]`,
  );
  if (measured !== null) {
    const perSecond = (bytes: number) => formatBytes((bytes * 1000) / measured.durationMs);
    lines.push(
      `Measured to the replica: ${perSecond(measured.contentBytes)}/s of content, ${perSecond(measured.wireBytes)}/s on the wire`,
    );
  }
  if (estimatedSendBytes !== null && estimatedDurationMs !== null) {
    lines.push(
      `First copy: about ${formatBytes(estimatedSendBytes)} to send, in about ${formatDuration(estimatedDurationMs)}`,
    );
  }
  lines.push(
    `Replica: takes ${formatBytes(plan.allocatedBytes)} at first${peer.freeBytes === null ? "" : `, ${formatBytes(peer.freeBytes)} free there`}`,
  );
  lines.push(
    refusals.length === 0
      ? "Nothing was changed; it would be enabled."
      : "Nothing was changed; it would not work.",
  );
  return lines;
}
