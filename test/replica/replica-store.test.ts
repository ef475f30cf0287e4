import t from "tap";
import { replicaEndpointContract } from "../contracts/replica-endpoint.js";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NodeStoreFiles } from "#lib/replica/node-store-files.js";
import { openPlainStore, readDisk } from "./support/scene.js";
import { plainLayers } from "./support/plain-layers.js";

replicaEndpointContract(t, "replica store over plain layers", async () => {
  const root = await mkdtemp(join(tmpdir(), "tidemark-replica-"));
  const native = plainLayers(new NodeStoreFiles());
  const store = await openPlainStore(root);
  return {
    endpoint: store,
    readPoint: (vmId, pointId, diskIndex) => readDisk(store, native, vmId, pointId, diskIndex),
    close: async () => {
      await store.close();
      await rm(root, { recursive: true });
    },
  };
});
