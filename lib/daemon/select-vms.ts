import type { VmSelector } from "../management/bulk-schemas.js";
import { TidemarkError } from "../model/errors.js";
import type { HostParts } from "./host-parts.js";
import type { ReplicatedVmName } from "./handlers/find-vm.js";

/**
 * The VMs that this host replicates (as their primary, or `extended`) that fit everything
 * that is said; by name or glob, one of them. NOT_FOUND names what fits no VM, and then nothing is selected.
 */
export async function selectVms(
  { vms, engine }: Pick<HostParts, "vms" | "engine">,
  { names, replicaUrl, state }: VmSelector,
  extended: readonly ReplicatedVmName[] = [],
): Promise<readonly ReplicatedVmName[]> {
  const all: readonly ReplicatedVmName[] = [...vms.definitions(), ...extended];
  requireAllFound(all, names ?? []);
  const named = all.filter((vm) => names === undefined || names.some((name) => isNamed(vm, name)));
  const statuses = await Promise.all(
    named.map(async (vm) => ({ vm, status: await engine.status(vm.vmId).catch(() => null) })),
  );
  return statuses
    .filter(({ status }) => state === undefined || status?.state === state)
    .filter(({ status }) => {
      const url = status?.settings.replicaUrl;
      return replicaUrl === undefined || (url !== undefined && isSameOrigin(url, replicaUrl));
    })
    .map(({ vm }) => vm);
}

function requireAllFound(all: readonly ReplicatedVmName[], names: readonly string[]): void {
  const lost = names.filter((name) => !all.some((vm) => isNamed(vm, name)));
  if (lost.length === 0) return;
  throw new TidemarkError("NOT_FOUND", `Cannot find VM ${lost.join(", ")} on this host.`, {
    hint: "`tidemark vm status` lists the VMs.",
  });
}

function isNamed({ name, vmId }: ReplicatedVmName, wanted: string): boolean {
  return name === wanted || vmId === wanted || globPattern(wanted).test(name);
}

/** `*` stands for any text, `?` for one character, everything else for itself. */
function globPattern(glob: string): RegExp {
  const literal = glob.replace(/[.+^${}()|[\]\\]/g, String.raw`\$&`);
  return new RegExp(`^${literal.replaceAll("*", ".*").replaceAll("?", ".")}$`);
}

function isSameOrigin(one: string, other: string): boolean {
  return new URL(one).origin === new URL(other).origin;
}
