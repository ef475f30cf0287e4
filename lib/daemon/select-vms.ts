import type { VmSelector } from "../management/bulk-schemas.js";
import { TidemarkError } from "../model/errors.js";
import type { HostParts } from "./host-parts.js";
import { ownReplications, type Replicated } from "./handlers/find-vm.js";

/**
 * What this host replicates (as primary, or `extended`) that fits everything that is said; by name
 * or glob, one of them: a VM's means all of its targets, "VM@TARGET" one. NOT_FOUND names what
 * fits none, and then nothing is selected.
 */
export async function selectVms(
  parts: Pick<HostParts, "vms" | "engine">,
  { names, replicaUrl, state }: VmSelector,
  extended: readonly Replicated[] = [],
): Promise<readonly Replicated[]> {
  const all = [...ownReplications(parts), ...extended];
  requireAllFound(all, names ?? []);
  const named = all.filter((vm) => names === undefined || names.some((name) => isNamed(vm, name)));
  const statuses = await Promise.all(
    named.map(async (each) => {
      return { each, status: await parts.engine.status(each.relationshipId).catch(() => null) };
    }),
  );
  return statuses
    .filter(({ status }) => state === undefined || status?.state === state)
    .filter(({ status }) => {
      const url = status?.settings.replicaUrl;
      return replicaUrl === undefined || (url !== undefined && isSameOrigin(url, replicaUrl));
    })
    .map(({ each }) => each);
}

function requireAllFound(all: readonly Replicated[], names: readonly string[]): void {
  const lost = names.filter((name) => !all.some((vm) => isNamed(vm, name)));
  if (lost.length === 0) return;
  throw new TidemarkError("NOT_FOUND", `Cannot find VM ${lost.join(", ")} on this host.`, {
    hint: "`tidemark vm status` lists the VMs.",
  });
}

function isNamed({ name, vmId }: Replicated, wanted: string): boolean {
  const [vmName = ""] = name.split("@");
  const meant = wanted.includes("@") ? name : vmName;
  return meant === wanted || vmId === wanted || globPattern(wanted).test(meant);
}

/** `*` stands for any text, `?` for one character, everything else for itself. */
function globPattern(glob: string): RegExp {
  const literal = glob.replace(/[.+^${}()|[\]\\]/g, String.raw`\$&`);
  return new RegExp(`^${literal.replaceAll("*", ".*").replaceAll("?", ".")}$`);
}

function isSameOrigin(one: string, other: string): boolean {
  return new URL(one).origin === new URL(other).origin;
}
