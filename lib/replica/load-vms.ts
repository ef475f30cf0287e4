import { type TidemarkError, toTidemarkError } from "../model/errors.js";
import { sweepDeletedVm } from "./delete-vm.js";
import { loadVm } from "./load-vm.js";
import type { ReplicaTools } from "./replica-tools.js";
import { VmPaths, vmsDirectory } from "./store-paths.js";
import type { VmReplica } from "./vm-replica.js";

/** All that is on disk: what can be used, and why the others cannot. */
export async function loadVms(
  tools: ReplicaTools,
  root: string,
  vms: Map<string, VmReplica>,
  unreadable: Map<string, TidemarkError>,
): Promise<void> {
  const { files } = tools;
  for (const name of await files.list(vmsDirectory(root))) {
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(name)) continue;
    const paths = new VmPaths(root, name);
    try {
      if (await sweepDeletedVm(files, paths)) continue;
      vms.set(name, await loadVm(tools, paths, name));
    } catch (thrown) {
      // Enabling ended before its last step: the VM was never there.
      const isHalfMade = (await files.size(paths.vmFile)) === null;
      const hasPoints = (await files.list(paths.pointsDirectory)).length > 0;
      if (!isHalfMade || hasPoints) unreadable.set(name, toTidemarkError(thrown));
    }
  }
}
