/**
 * One of the two hosts as a process of its own, to be killed at a failpoint:
 * `primary PORT HEADER` sends two segments, `replica` serves until it dies.
 */
import { join } from "node:path";
import type { DeltaHeader } from "#lib/model/delta.js";
import { hostFiles } from "#lib/security/host-files.js";
import { loadTlsIdentity } from "#lib/security/tls-identity.js";
import { HttpsReplicaEndpoint } from "#lib/transport/https-replica-client.js";
import { PeerServer } from "#lib/transport/peer-server.js";
import { generatedSource, HashingReplica, INGEST_WORKER, newLanes } from "./hosts.js";

const [role = "", directory = "", port = "", headerJson = ""] = process.argv.slice(2);
const { material } = await loadTlsIdentity(hostFiles(join(directory, role)));

if (role === "primary") {
  const lanes = newLanes(1, 1);
  const endpoint = new HttpsReplicaEndpoint({
    replicaUrl: `https://127.0.0.1:${port}`,
    tls: () => material,
    lanes,
  });
  const header = JSON.parse(headerJson) as DeltaHeader;
  await endpoint.openDelta(header);
  for (const index of [0, 1]) {
    const recipe = { seed: index + 1, pieceBytes: 1 << 20, pieceCount: 4 };
    await endpoint.putSegment(generatedSource(header.deltaId, index, recipe));
  }
  await lanes.close();
} else {
  const replica = new HashingReplica();
  const server = await PeerServer.start({
    workerUrl: INGEST_WORKER,
    host: "127.0.0.1",
    port: 0,
    tls: material,
    replicaFor: () => replica,
  });
  process.send?.(server.port);
}
