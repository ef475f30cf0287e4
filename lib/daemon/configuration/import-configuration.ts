/**
 * Brings a host to what a configuration says. Nothing is removed, and what is as it
 * should be is left alone: importing twice does nothing the second time.
 */
import { isDeepStrictEqual } from "node:util";
import { problemOf } from "../../management/problem-of.js";
import type {
  ConfigurationImportReport,
  HostConfigurationDocument,
  SettingChange,
} from "../../management/configuration-schemas.js";
import type { VmEnableRequest } from "../../management/schemas.js";
import { toTidemarkError } from "../../model/errors.js";
import { enableVm } from "../enable-vm.js";
import type { HostParts } from "../host-parts.js";
import { acceptReplicas } from "../accept-replicas.js";
import { requireScripts } from "../require-scripts.js";
import { changeSettings } from "./change-settings.js";
import { asEnabled, hostSettings } from "./export-configuration.js";

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
  for (const wanted of relationships) {
    const step = await stepFor(parts, wanted);
    const error = await (isDryRun ? step.check() : step.apply()).then(() => null, toTidemarkError);
    outcomes.push({ ...step.outcome, error: error === null ? null : problemOf(error) });
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
  const changes = changesOf(present, settings);
  if (changes.length === 0) {
    const done = async () => {};
    return { outcome: { name, action: "none", changes }, check: done, apply: done };
  }
  const apply = (check: "check" | "apply") =>
    changeSettings(parts, definition, changes, check === "check");
  return {
    outcome: { name, action: "change", changes },
    check: () => apply("check"),
    apply: () => apply("apply"),
  };
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
