/** Segments on their way in: what counts after a restart, and what is refused. */
import { createHash, randomUUID } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import t from "tap";
import { openSegmentSink } from "#lib/replica/segment-sink.js";
import { binding } from "#lib/tracking/binding.js";
import {
  encodeSegment,
  type PlainSegment,
  segmentSha256,
  segmentSource,
} from "../contracts/segment-bytes.js";
import { naiveXxh3 } from "../support/naive-xxh3.js";
import { openNativeStore, temporaryDirectory, verifyLayers } from "./support/native-scene.js";
import { type Blocks, GRANULARITY, readBlocks, Scene } from "./support/scene.js";

const BLOCKS: Blocks = { 0: { 0: 1, 1: 2, 2: 0 }, 1: { 7: 3 } };

function request(scene: Scene, segment: PlainSegment, attempt = 1) {
  const contentBytes = segment.records.reduce((sum, record) => sum + record.length, 0);
  const { deltaId, segmentIndex } = segment;
  return { vmId: scene.vm.vmId, deltaId, attempt, segmentIndex, contentBytes };
}

const at = <T>(list: readonly T[], index: number): T => {
  const found = list[index];
  if (found === undefined) throw new Error(`nothing at ${index}`);
  return found;
};

void t.test(
  "T35: after a restart the segments that were durable are answered, and count",
  async (t) => {
    const root = await temporaryDirectory(t);
    const scene = new Scene();
    const first = await openNativeStore(t, root);
    await first.enable(scene.vm, scene.generation);
    const header = scene.header({ segmentCount: 2 });
    const segments = scene.segments(header.deltaId, BLOCKS);
    await first.openDelta(header);
    await first.putSegment(segmentSource(at(segments, 1)));
    // On its way when the service ends: durable or not, it was not acknowledged.
    const slot = await first.reserveSegment(request(scene, at(segments, 0)));
    const sink = await openSegmentSink(slot);
    await sink.write(encodeSegment(at(segments, 0)).subarray(0, 5000));
    await first.close();

    const second = await openNativeStore(t, root);
    const durable = await second.openDelta(header);
    t.same(
      durable.map(({ segmentIndex, sha256 }) => [segmentIndex, sha256]),
      [[1, segmentSha256(at(segments, 1))]],
    );
    const point = await scene.deliver(second, header, BLOCKS);
    t.same(await readBlocks(second, binding, scene.vm.vmId, point?.pointId ?? ""), [
      [1, 2, 0, 0, 0, 0, 0, 0],
      [0, 0, 0, 0, 0, 0, 0, 3],
    ]);
  },
);

void t.test(
  "a segment of a superseded delta is refused and its late writes harm nobody",
  async (t) => {
    const root = await temporaryDirectory(t);
    const scene = new Scene();
    const store = await openNativeStore(t, root);
    await store.enable(scene.vm, scene.generation);
    const old = scene.header({ segmentCount: 2 });
    const segments = scene.segments(old.deltaId, BLOCKS);
    await store.openDelta(old);
    const slot = await store.reserveSegment(request(scene, at(segments, 0)));
    const sink = await openSegmentSink(slot);
    await sink.write(encodeSegment(at(segments, 0)));

    const point = await scene.point(store, null, { 0: { 5: 55 } });
    await t.rejects(store.reserveSegment(request(scene, at(segments, 1))), { code: "NOT_FOUND" });
    const receipt = { ...(await sink.finish()), wireBytes: 1 };
    await t.rejects(store.completeSegment(slot, receipt), { code: "NOT_FOUND" });
    await t.rejects(store.completeSegment(slot, receipt), { code: "NOT_FOUND" }, "also repeated");
    t.same(
      (await readBlocks(store, binding, scene.vm.vmId, point.pointId))[0],
      [0, 0, 0, 0, 0, 55, 0, 0],
    );
    await store.close();
    await openNativeStore(t, root);
    const staging = join(root, "vms", scene.vm.vmId, "epochs", "0000000001", "staging");
    t.same(await readdir(staging), [], "nothing of it is left");
  },
);

void t.test(
  "T22: of two arrivals of a segment the later one counts, also after a restart",
  async (t) => {
    const root = await temporaryDirectory(t);
    const scene = new Scene();
    const first = await openNativeStore(t, root);
    await first.enable(scene.vm, scene.generation);
    const header = scene.header({ segmentCount: 1 });
    const arrivals = [7, 8].map((value) =>
      at(scene.segments(header.deltaId, { 0: { 1: value } }), 0),
    );
    await first.openDelta(header);
    for (const segment of arrivals) {
      const slot = await first.reserveSegment(request(scene, segment));
      const sink = await openSegmentSink(slot);
      await sink.write(encodeSegment(segment));
      await first.completeSegment(slot, { ...(await sink.finish()), wireBytes: 1 });
    }
    await first.close();
    const second = await openNativeStore(t, root);
    const [durable] = await second.openDelta(header);
    t.equal(durable?.sha256, segmentSha256(at(arrivals, 1)));
    const point = await scene.commit(second, header, [at(arrivals, 1)]);
    const content = await readBlocks(second, binding, scene.vm.vmId, point?.pointId ?? "");
    t.equal(content[0]?.[1], 8);
  },
);

void t.test(
  "a segment may have the other digest, and counts with it after a restart",
  async (t) => {
    const root = await temporaryDirectory(t);
    const scene = new Scene();
    const first = await openNativeStore(t, root);
    await first.enable(scene.vm, scene.generation);
    const header = scene.header({ segmentCount: 1 });
    const segment = at(scene.segments(header.deltaId, { 0: { 1: 7 } }), 0);
    await first.openDelta(header);
    const slot = await first.reserveSegment({ ...request(scene, segment), digest: "xxh3-128" });
    const sink = await openSegmentSink(slot);
    await sink.write(encodeSegment(segment));
    const receipt = { ...(await sink.finish()), wireBytes: 1 };
    await first.completeSegment(slot, receipt);
    const xxh3 = Buffer.from(naiveXxh3(encodeSegment(segment)), "hex");
    t.equal(receipt.sha256, createHash("sha256").update(xxh3).digest("hex"));
    await first.close();

    const second = await openNativeStore(t, root);
    const [durable] = await second.openDelta(header);
    t.equal(durable?.sha256, receipt.sha256);
    const { vmId, generation, deltaId, attempt } = header;
    const digest = createHash("sha256").update(receipt.sha256, "hex").digest("hex");
    const point = await second.commit({ vmId, deltaId, attempt, generation, digest });
    t.equal(point?.digest, digest);
    t.equal((await readBlocks(second, binding, vmId, point?.pointId ?? ""))[0]?.[1], 7);
  },
);

void t.test("a commit waits for a segment that is arriving a second time", async (t) => {
  const scene = new Scene();
  const store = await openNativeStore(t, await temporaryDirectory(t));
  await store.enable(scene.vm, scene.generation);
  const header = scene.header({ segmentCount: 1 });
  const segment = at(scene.segments(header.deltaId, { 0: { 1: 7 } }), 0);
  await store.openDelta(header);
  await store.putSegment(segmentSource(segment));
  const slot = await store.reserveSegment(request(scene, segment));
  const sink = await openSegmentSink(slot);
  const commit = scene.commit(store, header, [segment]);
  // Long enough for a commit that would not wait: then the late write hits the sealed layer.
  await Promise.race([commit, setTimeout(300)]);
  await t.rejects(store.reserveSegment(request(scene, segment)), { code: "CONFLICT" });
  await sink.write(encodeSegment(segment));
  await sink.finish();
  await store.abortSegment(slot);
  const point = await commit;
  const content = await readBlocks(store, binding, scene.vm.vmId, point?.pointId ?? "");
  t.equal(content[0]?.[1], 7);
  await verifyLayers(store, scene.vm.vmId, point?.pointId ?? "");
});

void t.test(
  "T29: a stream that does not fit its slot is refused, and the segment can come again",
  async (t) => {
    const scene = new Scene();
    const store = await openNativeStore(t, await temporaryDirectory(t));
    await store.enable(scene.vm, scene.generation);
    const header = scene.header({ segmentCount: 1 });
    const segment = at(scene.segments(header.deltaId, { 0: { 1: 7, 2: 8 } }), 0);
    const data = Buffer.alloc(GRANULARITY, 1);
    const misfits: Record<string, PlainSegment> = {
      "another delta": { ...segment, deltaId: randomUUID() },
      "another index": { ...segment, segmentIndex: 1 },
      "no such disk": { ...segment, diskIndex: 2 },
      "another granularity": { ...segment, granularity: 2 * GRANULARITY, records: [] },
      "beyond the end": {
        ...segment,
        records: [{ offset: 8 * GRANULARITY, length: GRANULARITY, data }],
      },
      "zeroes beyond the end": {
        ...segment,
        records: [{ offset: 7 * GRANULARITY, length: 2 * GRANULARITY, data: null }],
      },
      "more than was announced": {
        ...segment,
        records: [0, 1, 2].map((block) => ({
          offset: block * GRANULARITY,
          length: GRANULARITY,
          data,
        })),
      },
    };
    await store.openDelta(header);
    for (const [what, misfit] of Object.entries(misfits)) {
      const slot = await store.reserveSegment(request(scene, segment));
      const sink = await openSegmentSink(slot);
      const receive = async () => {
        await sink.write(encodeSegment(misfit));
        await sink.finish();
      };
      await t.rejects(receive(), { code: /^(CORRUPT|INVALID_ARGUMENT)$/ }, what);
      await sink.abort();
      await store.abortSegment(slot);
    }
    t.same(await store.openDelta(header), [], "none of them counts");
    const point = await scene.deliver(store, header, { 0: { 1: 7, 2: 8 } });
    const content = await readBlocks(store, binding, scene.vm.vmId, point?.pointId ?? "");
    t.same(content[0], [0, 7, 8, 0, 0, 0, 0, 0]);
  },
);

void t.test("requests that fit no delta are refused", async (t) => {
  const scene = new Scene();
  const store = await openNativeStore(t, await temporaryDirectory(t));
  await store.enable(scene.vm, scene.generation);
  const header = scene.header({ segmentCount: 1 });
  await store.openDelta(header);
  const good = request(scene, at(scene.segments(header.deltaId, { 0: { 1: 7 } }), 0));
  for (const [wrong, code] of [
    [{ segmentIndex: 1 }, "INVALID_ARGUMENT"],
    [{ segmentIndex: -1 }, "INVALID_ARGUMENT"],
    [{ segmentIndex: 0.5 }, "INVALID_ARGUMENT"],
    [{ contentBytes: -1 }, "INVALID_ARGUMENT"],
    [{ contentBytes: 2 ** 40 }, "INVALID_ARGUMENT"],
    [{ attempt: 2 }, "NOT_FOUND"],
    [{ deltaId: randomUUID() }, "NOT_FOUND"],
    [{ vmId: randomUUID() }, "NOT_FOUND"],
    [{ vmId: "../../etc" }, "INVALID_ARGUMENT"],
  ] as const) {
    await t.rejects(store.reserveSegment({ ...good, ...wrong }), { code }, JSON.stringify(wrong));
  }
});
