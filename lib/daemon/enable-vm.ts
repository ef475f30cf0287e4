import type { VmEnableRequest } from "../management/schemas.js";
import { requireScripts } from "./require-scripts.js";
import { newFirstCopy } from "./new-first-copy.js";
import type { HostParts } from "./host-parts.js";
import type { VmDefinition } from "./open-vm-disks.js";

/** Tracks, serves and replicates a new VM, or leaves nothing of it. */
export async function enableVm(parts: HostParts, request: VmEnableRequest): Promise<VmDefinition> {
  const { vms, live, engine, maintenance } = parts;
  maintenance.refuseEnabling();
  await requireScripts(request);
  const { definition } = await vms.add(request);
  const { vmId, targetId } = definition;
  const { name, disks: _, hypervisor: _place, firstCopy, initialStartAtMs, ...rest } = request;
  const settings = { vmId, targetId, ...rest };
  try {
    engine.requireEnableable(settings, initialStartAtMs);
    await live.attend(vmId);
    const way = firstCopy === undefined ? null : await newFirstCopy(parts, name, firstCopy);
    await engine.enable(settings, initialStartAtMs, way);
  } catch (thrown) {
    await engine.forget(vmId);
    await live.leave(vmId);
    await vms.remove(vmId);
    throw thrown;
  }
  return definition;
}
