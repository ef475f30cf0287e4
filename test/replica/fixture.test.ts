/** A store that version 1 of the format left behind is opened, and goes on. */
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import t from "tap";
import { binding } from "#lib/tracking/binding.js";
import { openNativeStore, temporaryDirectory } from "./support/native-scene.js";
import { contentOfPoint } from "./support/numbered-points.js";
import { readBlocks, Scene } from "./support/scene.js";

const FIXTURE = fileURLToPath(new URL("../fixtures/formats/replica-store-v1", import.meta.url));
const VM = "00000000-0000-4000-8000-000000000001";
const CLOSING = "00000000-0000-4000-8000-000000000009";

void t.test(
  "a store of format version 1 opens with its points, session and open delta",
  async (t) => {
    const root = join(await temporaryDirectory(t), "store");
    await mkdir(root);
    await cp(FIXTURE, root, { recursive: true });
    const store = await openNativeStore(t, root);
    const { vm, generation, head, stagingSessionId } = await store.status(VM);
    const points = await store.points(VM);
    t.same(
      points.map(({ sequence }) => sequence),
      [2, 3],
    );
    for (const { pointId, sequence } of points) {
      t.same(await readBlocks(store, binding, VM, pointId), contentOfPoint(sequence).values);
      await store.verifyPoint(VM, pointId);
    }
    const scene = new Scene(vm, generation);
    const cut = { ...scene.header().cut, sequence: 5, takenAtMs: 1_700_000_005_000 };
    const parentPointId = head?.pointId ?? null;
    const closing = { ...scene.header({ parentPointId, stagingSessionId, deltaId: CLOSING }), cut };
    const blocks = { 0: { 7: 71 }, 1: { 7: 72 } };
    const durable = await store.openDelta({ ...closing, segmentCount: 2 });
    t.same(
      durable.map(({ segmentIndex }) => segmentIndex),
      [0],
    );
    const point = await scene.deliver(store, closing, blocks);
    const expected = contentOfPoint(3)
      .with({ 0: { 6: 61 } })
      .with(blocks);
    t.same(await readBlocks(store, binding, VM, point?.pointId ?? ""), expected.values);
  },
);
