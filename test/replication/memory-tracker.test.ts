import { randomUUID } from "node:crypto";
import t from "tap";
import { MemoryVmTracker } from "#lib/model/memory-tracker.js";
import { runVmTrackerContract } from "../contracts/vm-tracker.js";
import { decodeSegment, encodeContents, newDeltaId } from "../contracts/segment-bytes.js";
import { DISKS, GRANULARITY } from "./simulation/scene.js";
import { Random } from "./simulation/random.js";

const TARGET = "target";

async function newTracker(captureBudgetBytes = Number.POSITIVE_INFINITY) {
  const tracker = new MemoryVmTracker({ disks: DISKS, encode: encodeContents, captureBudgetBytes });
  await tracker.addTarget(TARGET);
  return tracker;
}

void t.test(
  "G2 T17: a checkpoint reads as the disks were, whatever is written since",
  async (t) => {
    for (let seed = 1; seed <= 200; seed += 1) {
      const random = new Random(seed);
      const tracker = await newTracker();
      const write = () => {
        const diskIndex = random.below(DISKS.length);
        const size = DISKS[diskIndex]?.sizeBytes ?? 0;
        const offset = random.below(size);
        const length = 1 + random.below(Math.min(20, size - offset));
        tracker.write(diskIndex, offset, Buffer.alloc(length, random.below(256)));
      };
      for (let count = 0; count < 15; count += 1) write();
      const changes = await tracker.checkpoint(TARGET, { segmentBytes: 4 * GRANULARITY });
      const cut = DISKS.map((_, diskIndex) => tracker.contentOf(diskIndex).slice());
      const image = DISKS.map(({ sizeBytes }) => new Uint8Array(sizeBytes));
      for (const plan of changes.segments) {
        write();
        for await (const bytes of changes.source(newDeltaId(), plan).records()) {
          const { diskIndex, extents } = decodeSegment(bytes);
          for (const { offsetBytes, content } of extents) {
            if (content !== null) image[diskIndex]?.set(content, offsetBytes);
          }
        }
        if (random.chance(0.5)) changes.release(plan);
      }
      if (image.some((content, index) => Buffer.compare(content, cut[index] ?? content) !== 0)) {
        t.fail(`seed ${seed}`);
      }
    }
  },
);

void t.test("a full capture store breaks the capture, not the write", async (t) => {
  const tracker = await newTracker(GRANULARITY);
  tracker.write(0, 0, Buffer.alloc(4 * GRANULARITY, 1));
  const changes = await tracker.checkpoint(TARGET);
  tracker.write(0, 0, Buffer.alloc(GRANULARITY, 2));
  t.equal(changes.brokenReason(), null);
  tracker.write(0, GRANULARITY, Buffer.alloc(GRANULARITY, 2));
  t.match(changes.brokenReason(), /full/);
  const [plan] = changes.segments;
  if (plan === undefined) throw new Error("no segment");
  const records = changes.source(newDeltaId(), plan).records()[Symbol.asyncIterator]();
  await t.rejects(records.next(), { code: "CAPTURE_BROKEN" });
  await changes.giveBack();
  t.equal((await tracker.progress(TARGET)).pendingBytes, 4 * GRANULARITY);
});

void t.test("bits move as they should, and exactly once", async (t) => {
  const tracker = await newTracker();
  tracker.write(0, 3, Buffer.alloc(1));
  const drained = await tracker.drain(TARGET);
  await t.rejects(tracker.checkpoint(TARGET), { code: "CONFLICT" });
  await drained.stage();
  await t.rejects(drained.giveBack(), { code: "CLOSED" });
  t.match(tracker.marksOf(TARGET, 0, 0), { staged: true, pending: false, inFlight: false });
  const closing = await tracker.checkpoint(TARGET);
  t.equal(closing.segments.length, 0);
  await closing.commit();
  t.match(await tracker.progress(TARGET), { pendingBytes: 0, inFlightBytes: 0, stagedBytes: 0 });
});

void t.test("after a crash pending holds what was live or in flight, staged stays", async (t) => {
  const tracker = await newTracker();
  tracker.write(0, 0, Buffer.alloc(1));
  await (await tracker.drain(TARGET)).stage();
  tracker.write(0, GRANULARITY, Buffer.alloc(1));
  const changes = await tracker.checkpoint(TARGET);
  tracker.write(0, 2 * GRANULARITY, Buffer.alloc(1));
  tracker.crash();
  await t.rejects(changes.commit(), { code: "CLOSED" });
  t.match(await tracker.progress(TARGET), {
    pendingBytes: 2 * GRANULARITY,
    inFlightBytes: 0,
    stagedBytes: GRANULARITY,
  });
});

runVmTrackerContract(t, "in memory", async () => {
  const disk = { diskId: randomUUID(), name: "vda", sizeBytes: 8 * 4096, granularityBytes: 4096 };
  const tracker = new MemoryVmTracker({ disks: [disk], encode: encodeContents });
  await tracker.addTarget(TARGET);
  const write = async (block: number, value: number) =>
    tracker.write(0, block * 4096, Buffer.alloc(4096, value));
  return { tracker, targetId: TARGET, write };
});
