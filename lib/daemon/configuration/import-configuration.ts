/**
 * Brings a host to what a configuration says. Nothing is removed, and what is as it
 * should be is left alone: importing twice does nothing the second time.
 */
import { isDeepStrictEqual } from "node:util";
import { problemOf } from "../../management/problem-of.js";
import type {
  ConfigurationImportReport,
  HostConfigurationDocument,
  NamedTarget,
  SettingChange,
} from "../../management/configuration-schemas.js";
import type { VmEnableRequest } from "../../management/schemas.js";
import { toTidemarkError } from "../../model/errors.js";
import { addTarget } from "../add-target.js";
import { enableVm } from "../enable-vm.js";
import { findPrimary, type Replicated } from "../handlers/find-vm.js";
import type { HostParts } from "../host-parts.js";
import { acceptReplicas } from "../accept-replicas.js";
import { requireScripts } from "../require-scripts.js";
import { changeSettings } from "./change-settings.js";
import { asAdded, asEnabled, hostSettings } from "./export-configuration.js";

type RelationshipOutcome = ConfigurationImportReport["relationships"][number];

/** A relationship, what has to be done about it, and how. */
interface Step {
  readonly outcome: Omit<RelationshipOutcome, "error">;
  readonly check: () => Promise<void>;
  readonly apply: () => Promise<unknown>;
}

export async function importConfiguration(
  parts: HostParts,
  { host, relationships }: HostConfigurationDocument,
  isDryRun: boolean,
): Promise<ConfigurationImportReport> {
  const hostChanges = changesOf(hostSettings(parts), host);
  if (!isDryRun) await applyToHost(parts, host, hostChanges);
  const outcomes: RelationshipOutcome[] = [];
  const take = async (step: Step) => {
    const error = await (isDryRun ? step.check() : step.apply()).then(() => null, toTidemarkError);
    outcomes.push({ ...step.outcome, error: error === null ? null : problemOf(error) });
  };
  for (const { targets = [], ...wanted } of relationships) {
    await take(await stepFor(parts, wanted));
    for (const target of targets) await take(await stepForTarget(parts, wanted.name, target));
  }
  return { isDryRun, host: hostChanges, relationships: outcomes };
}

async function applyToHost(
  parts: HostParts,
  { acceptsReplicas, monitoring, testFailovers, transfers }: HostConfigurationDocument["host"],
  changes: readonly SettingChange[],
): Promise<void> {
  const isChanged = (name: string) => changes.some(({ setting }) => setting === name);
  if (isChanged("acceptsReplicas")) await acceptReplicas(parts, acceptsReplicas ?? false);
  if (monitoring !== undefined && isChanged("monitoring")) {
    await parts.settings.update({ monitoring });
  }
  if (testFailovers !== undefined && isChanged("testFailovers")) {
    await parts.settings.update({ testFailovers });
  }
  if (transfers !== undefined && isChanged("transfers")) {
    await parts.transfers.change(transfers);
    parts.engine.checkTurns();
  }
}

async function stepFor(parts: HostParts, wanted: VmEnableRequest): Promise<Step> {
  const { name } = wanted;
  const definition = parts.vms.find(name);
  const present = definition === null ? null : await asEnabled(parts, definition);
  if (definition === null || present === null) {
    return {
      outcome: { name, action: "enable", changes: [] },
      check: () => requireEnableable(parts, wanted),
      apply: () => enableVm(parts, wanted),
    };
  }
  const { initialStartAtMs: _begun, ...settings } = withNames(wanted, present);
  const relationship = { name, relationshipId: definition.vmId };
  return stepOfChanges(parts, relationship, changesOf(present, settings));
}

async function stepForTarget(
  parts: HostParts,
  vmName: string,
  { initialStartAtMs, ...wanted }: NamedTarget,
): Promise<Step> {
  const name = `${vmName}@${wanted.targetName}`;
  const { engine, vms } = parts;
  const found = engine
    .targetsOf(vms.find(vmName)?.vmId ?? "")
    .find((target) => target.name === wanted.targetName);
  const present = found === undefined ? null : await asAdded(parts, found.id);
  if (found !== undefined && present !== null) {
    const relationship = { name, relationshipId: found.id };
    return stepOfChanges(parts, relationship, changesOf(present, wanted));
  }
  const request = { ...wanted, initialStartAtMs, takesOver: false };
  return {
    outcome: { name, action: "enable", changes: [] },
    check: async () => parts.maintenance.refuseEnabling(),
    apply: () => addTarget(parts, findPrimary(parts, vmName), request),
  };
}

function stepOfChanges(
  parts: HostParts,
  relationship: Pick<Replicated, "relationshipId" | "name">,
  changes: SettingChange[],
): Step {
  const { name } = relationship;
  if (changes.length === 0) {
    const done = async () => {};
    return { outcome: { name, action: "none", changes }, check: done, apply: done };
  }
  const apply = (isDryRun: boolean) => changeSettings(parts, relationship, changes, isDryRun);
  const outcome = { name, action: "change", changes } as const;
  return { outcome, check: () => apply(true), apply: () => apply(false) };
}

/** Disks that are not named bear the names that they have. */
function withNames(wanted: VmEnableRequest, present: VmEnableRequest): VmEnableRequest {
  const disks = wanted.disks.map((disk, index) => ({
    ...disk,
    name: disk.name ?? present.disks[index]?.name,
  }));
  return { ...wanted, disks };
}

async function requireEnableable(parts: HostParts, wanted: VmEnableRequest): Promise<void> {
  parts.maintenance.refuseEnabling();
  await requireScripts(wanted);
  await parts.vms.requireAddable(wanted);
}

/** Settings that are there or wanted, and differ. */
function changesOf(present: object, wanted: object): SettingChange[] {
  const [from, to] = [present, wanted].map((one) => one as Record<string, unknown>);
  return Object.keys(wanted)
    .filter((setting) => to?.[setting] !== undefined)
    .filter((setting) => !isDeepStrictEqual(from?.[setting], to?.[setting]))
    .map((setting) => ({ setting, from: from?.[setting] ?? null, to: to?.[setting] ?? null }));
}
