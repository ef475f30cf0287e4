/** The store's own rules, over layers and files that share nothing with the real ones. */
import t from "tap";
import { replicaEndpointContract } from "../contracts/replica-endpoint.js";
import { MemoryFiles } from "./support/memory-files.js";
import { plainLayers } from "./support/plain-layers.js";
import { openPlainStore, readDisk } from "./support/scene.js";

replicaEndpointContract(t, "replica store over plain layers", async () => {
  const files = new MemoryFiles();
  const store = await openPlainStore("/store", files);
  return {
    endpoint: store,
    readPoint: (vmId, pointId, diskIndex) =>
      readDisk(store, plainLayers(files), vmId, pointId, diskIndex),
    close: () => store.close(),
  };
});
