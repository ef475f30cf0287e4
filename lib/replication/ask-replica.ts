import type { AskHashes } from "../model/vm-tracker.js";
import type { RelationshipContext } from "./relationship-context.js";

/** What the replica has in that point, or in the session of that id, as hashes. */
export function askReplica(
  { endpoint, vm, journal }: RelationshipContext,
  pointId: string,
  signal: AbortSignal,
): AskHashes {
  const { generation } = journal.record;
  return (diskIndex, extents, blockBytes) =>
    endpoint.blockHashes(
      {
        vmId: vm.vmId,
        generation,
        pointId,
        diskIndex,
        diskId: vm.disks[diskIndex]?.diskId,
        extents,
        blockBytes,
      },
      signal,
    );
}
