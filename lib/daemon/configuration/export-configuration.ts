import {
  type HostConfigurationDocument,
  type NamedTarget,
  namedTarget,
} from "../../management/configuration-schemas.js";
import type { HypervisorPlace } from "../../model/hypervisor.js";
import { type VmEnableRequest, vmEnableRequest } from "../../management/schemas.js";
import type { RelationshipStatus } from "../../model/relationship.js";
import type { HostParts } from "../host-parts.js";
import type { VmDefinition } from "../open-vm-disks.js";

export async function exportConfiguration(parts: HostParts): Promise<HostConfigurationDocument> {
  const definitions = [...parts.vms.definitions()].sort((a, b) => (a.name < b.name ? -1 : 1));
  const relationships = await Promise.all(definitions.map((vm) => withTargets(parts, vm)));
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

async function withTargets(parts: HostParts, vm: VmDefinition) {
  const enabled = await asEnabled(parts, vm);
  const further = parts.engine.targetsOf(vm.vmId);
  if (enabled === null || further.length === 0) return enabled;
  const targets = await Promise.all(further.map(({ id }) => asAdded(parts, id)));
  return { ...enabled, targets: targets.filter((one) => one !== null) };
}

/** What adding the target anew would be asked for; null: there is none of that id. */
export async function asAdded(
  { engine }: Pick<HostParts, "engine">,
  relationshipId: string,
): Promise<NamedTarget | null> {
  const status = await engine.status(relationshipId).catch(() => null);
  if (status === null) return null;
  return namedTarget.parse(settingsKnownTo(namedTarget, status));
}

/** What enabling it anew, as it is now, would be asked for; null for a VM without replication. */
export async function asEnabled(
  { engine }: Pick<HostParts, "engine">,
  { vmId, name, disks, hypervisor }: VmDefinition,
): Promise<VmEnableRequest | null> {
  const status = await engine.status(vmId).catch(() => null);
  if (status === null) return null;
  return vmEnableRequest.parse({
    ...settingsKnownTo(vmEnableRequest, status),
    name,
    ...(hypervisor === undefined ? {} : { hypervisor: placeOf(hypervisor) }),
    disks: disks.map((disk) => ({
      name: disk.name,
      path: disk.path,
      ...(disk.isExcluded === true ? { isExcluded: true } : {}),
    })),
  });
}

function placeOf({ kind, monitorPath }: HypervisorPlace): HypervisorPlace {
  return { kind, monitorPath };
}

/** Those that the request may hold. */
function settingsKnownTo({ shape }: { readonly shape: object }, { settings }: RelationshipStatus) {
  return Object.fromEntries(Object.entries(settings).filter(([key]) => Object.hasOwn(shape, key)));
}
