import type { SettingChange } from "../../management/configuration-schemas.js";
import { vmSettingsRequest } from "../../management/transfer-schemas.js";
import { TidemarkError } from "../../model/errors.js";
import type { HostParts } from "../host-parts.js";
import type { Replicated } from "../handlers/find-vm.js";
import { requireScripts } from "../require-scripts.js";
import { settingsChange } from "../settings-change.js";

const CHANGEABLE: ReadonlySet<string> = new Set(Object.keys(vmSettingsRequest.shape));

/** Of a relationship that is there; nothing when one of them cannot be changed. */
export async function changeSettings(
  { engine }: HostParts,
  { relationshipId, name }: Pick<Replicated, "relationshipId" | "name">,
  changes: readonly SettingChange[],
  isDryRun: boolean,
): Promise<void> {
  const group = changes.find(({ setting }) => setting === "group");
  const others = changes.filter((change) => change !== group);
  const fixed = others.filter(({ setting }) => !CHANGEABLE.has(setting));
  if (fixed.length > 0) throw cannotChange(name, fixed);
  const request = Object.fromEntries(others.map(({ setting, to }) => [setting, to]));
  const change = settingsChange(vmSettingsRequest.parse(request));
  await requireScripts(change);
  if (isDryRun) return;
  if (others.length > 0) await engine.change(relationshipId, change);
  if (group !== undefined) await engine.setGroup(relationshipId, group.to as string | null);
}

function cannotChange(name: string, fixed: readonly SettingChange[]): TidemarkError {
  const settings = fixed.map(({ setting }) => setting).join(", ");
  return new TidemarkError(
    "CONFLICT",
    `Cannot change ${settings} of ${name}: because its replication is enabled.`,
    { hint: "Remove its replication first, then import again." },
  );
}
