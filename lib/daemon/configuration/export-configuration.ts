import type { HostConfigurationDocument } from "../../management/configuration-schemas.js";
import { type VmEnableRequest, vmEnableRequest } from "../../management/schemas.js";
import type { HostParts } from "../host-parts.js";
import type { VmDefinition } from "../open-vm-disks.js";

export async function exportConfiguration(parts: HostParts): Promise<HostConfigurationDocument> {
  const definitions = [...parts.vms.definitions()].sort((a, b) => (a.name < b.name ? -1 : 1));
  const relationships = await Promise.all(definitions.map((vm) => asEnabled(parts, vm)));
  return {
    format: "tidemark-configuration",
    version: 1,
    host: hostSettings(parts),
    relationships: relationships.filter((one) => one !== null),
  };
}

export function hostSettings({ settings, transfers }: HostParts) {
  return { ...settings.values, transfers: transfers.settings };
}

/** What enabling it anew, as it is now, would be asked for; null for a VM without replication. */
export async function asEnabled(
  { engine }: Pick<HostParts, "engine">,
  { vmId, name, disks }: VmDefinition,
): Promise<VmEnableRequest | null> {
  const status = await engine.status(vmId).catch(() => null);
  if (status === null) return null;
  const known = Object.keys(vmEnableRequest.shape);
  const settings = Object.entries(status.settings).filter(([key]) => known.includes(key));
  return vmEnableRequest.parse({
    ...Object.fromEntries(settings),
    name,
    disks: disks.map((disk) => ({
      name: disk.name,
      path: disk.path,
      ...(disk.isExcluded === true ? { isExcluded: true } : {}),
    })),
  });
}
