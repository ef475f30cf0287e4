import t from "tap";
import { MemoryVmTracker } from "#lib/model/memory-tracker.js";
import { testKnownContent } from "../contracts/known-content.js";
import { encodeContents } from "../contracts/segment-bytes.js";
import { DISKS, GRANULARITY, TARGET_ID } from "./simulation/scene.js";

testKnownContent(t, async () => {
  const disks = DISKS.slice(0, 1).map((disk) => ({ ...disk, sizeBytes: 16 * GRANULARITY }));
  const tracker = new MemoryVmTracker({ disks, encode: encodeContents });
  await tracker.addTarget(TARGET_ID);
  return {
    tracker,
    targetId: TARGET_ID,
    write: async (block, value) =>
      tracker.write(0, block * GRANULARITY, Buffer.alloc(GRANULARITY, value)),
    resize: async (blockCount) => tracker.resizeDisk(0, blockCount * GRANULARITY),
    suspect: async () => tracker.suspect(0, 0, GRANULARITY, "lost writes"),
    close: async () => {},
  };
});
