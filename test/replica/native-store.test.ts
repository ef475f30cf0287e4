/** The store as a host runs it: over the addon, on real files, with the library's own decoder. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { ReplicaStore } from "#lib/replica/replica-store.js";
import { openSegmentSink } from "#lib/replica/segment-sink.js";
import { binding } from "#lib/tracking/binding.js";
import { replicaEndpointContract } from "../contracts/replica-endpoint.js";
import { readDisk } from "./support/scene.js";

replicaEndpointContract(t, "replica store", async () => {
  const root = await mkdtemp(join(tmpdir(), "tidemark-replica-"));
  const store = await ReplicaStore.open({ root, native: binding, openSink: openSegmentSink });
  return {
    endpoint: store,
    readPoint: (vmId, pointId, diskIndex) => readDisk(store, binding, vmId, pointId, diskIndex),
    close: async () => {
      await store.close();
      await rm(root, { recursive: true });
    },
  };
});
