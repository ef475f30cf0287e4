import t from "tap";
import { replicaEndpointContract } from "../contracts/replica-endpoint.js";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NodeStoreFiles } from "#lib/replica/node-store-files.js";
import { openPlainStore } from "./support/scene.js";
import { plainLayers } from "./support/plain-layers.js";

replicaEndpointContract(t, "replica store over plain layers", async () => {
  const root = await mkdtemp(join(tmpdir(), "tidemark-replica-"));
  const native = plainLayers(new NodeStoreFiles());
  const store = await openPlainStore(root);
  return {
    endpoint: store,
    readPoint: async (vmId, pointId, diskIndex) => {
      const opened = await store.openPoint(vmId, pointId);
      const disk = opened.disks[diskIndex];
      if (disk === undefined) throw new Error(`no disk ${diskIndex}`);
      const { diskId, sizeBytes, granularityBytes } = disk.geometry;
      const paths = [...disk.layerPaths];
      const device = await native.openLayeredDevice(
        diskId,
        sizeBytes,
        granularityBytes,
        disk.basePath,
        paths,
        "",
      );
      const content = Buffer.alloc(sizeBytes);
      await device.read(0, content);
      await device.close();
      opened.release();
      return content;
    },
    close: async () => {
      await store.close();
      await rm(root, { recursive: true });
    },
  };
});
