import t from "tap";
import { MemoryReplica } from "#lib/model/memory-replica.js";
import { replicaEndpointContract } from "../contracts/replica-endpoint.js";
import { decodeSegment } from "../contracts/segment-bytes.js";

replicaEndpointContract(t, "in memory", async () => {
  const endpoint = new MemoryReplica(decodeSegment);
  return {
    endpoint,
    readPoint: async (vmId, pointId, diskIndex) => endpoint.contentOf(vmId, pointId, diskIndex),
  };
});
