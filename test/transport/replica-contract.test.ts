import t from "tap";
import { MemoryReplica } from "#lib/model/memory-replica.js";
import { replicaEndpointContract } from "../contracts/replica-endpoint.js";
import { decodeSegment } from "../contracts/segment-bytes.js";
import { CarryingEndpoint, newLanes, startServer, testPki } from "./hosts.js";

const pki = await testPki();
const lanes = newLanes();
let current = new MemoryReplica(decodeSegment);
const server = await startServer(pki, current, { replicaFor: () => current });

t.teardown(async () => {
  await lanes.close();
  await server.close();
  await pki.remove();
});

// The rules run one after the other: each gets a replica of its own behind the one server.
replicaEndpointContract(t, "over mutual TLS", async () => {
  const replica = new MemoryReplica(decodeSegment);
  current = replica;
  const endpoint = new CarryingEndpoint({
    replicaUrl: `https://127.0.0.1:${server.port}`,
    tls: () => pki.primary,
    lanes,
  });
  return {
    endpoint,
    readPoint: async (vmId, pointId, diskIndex) => replica.contentOf(vmId, pointId, diskIndex),
    close: () => endpoint.close(),
  };
});
