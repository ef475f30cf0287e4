/** A store that a version of the format left behind is opened, and goes on. */
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import t, { type Test } from "tap";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { binding } from "#lib/tracking/binding.js";
import { keepNewest } from "./support/keep-newest.js";
import { openNativeStore, temporaryDirectory, verifyLayers } from "./support/native-scene.js";
import { contentOfPoint } from "./support/numbered-points.js";
import { readBlocks, Scene } from "./support/scene.js";

const VM = "00000000-0000-4000-8000-000000000001";
const VERSIONS = [
  { name: "replica-store-v1", sequences: [2, 3], closing: "9", marked: [] },
  { name: "replica-store-v2", sequences: [2, 3, 5], closing: "b", marked: [3] },
] as const;

for (const { name, sequences, closing: closingId, marked } of VERSIONS) {
  void t.test(`a ${name} opens with its points, session and open delta`, async (t) => {
    const root = join(await temporaryDirectory(t), "store");
    await mkdir(root);
    const fixture = fileURLToPath(new URL(`../fixtures/formats/${name}`, import.meta.url));
    await cp(fixture, root, { recursive: true });
    const store = await openNativeStore(t, root);
    const points = await store.points(VM);
    t.same(
      points.map(({ sequence }) => sequence),
      sequences,
    );
    for (const { pointId, sequence } of points) {
      t.same(await readBlocks(store, binding, VM, pointId), contentOfPoint(sequence).values);
      await verifyLayers(store, VM, pointId);
    }
    const kept = (await store.retention.list(VM)).filter(({ isPinned }) => isPinned);
    t.same(
      kept.map(({ point, label }) => [point.sequence, label]),
      marked.map((sequence) => [sequence, "a label"]),
    );
    const overrides = await store.retention.overrides(VM);
    t.same(overrides, marked.length > 0 ? { maxPoints: 7, quotaBytes: null } : {});
    const deltaId = `00000000-0000-4000-8000-00000000000${closingId}`;
    const point = await closeDelta(t, store, deltaId);
    t.equal(await keepNewest(store, VM, 1), true);
    const left = (await store.points(VM)).map(({ sequence }) => sequence);
    t.same(left, [...marked, point.sequence]);
    t.same(await readBlocks(store, binding, VM, point.pointId), point.content);
  });
}

/** The open delta's second segment comes, and it is committed. */
async function closeDelta(t: Test, store: ReplicaStore, deltaId: string) {
  const { vm, generation, head, stagingSessionId } = await store.status(VM);
  const scene = new Scene(vm, generation);
  // As it was announced: after the points and the staging delta.
  const cutSequence = (head?.sequence ?? 0) + 2;
  const takenAtMs = 1_700_000_000_000 + cutSequence * 1000;
  const cut = { ...scene.header().cut, sequence: cutSequence, takenAtMs };
  const parentPointId = head?.pointId ?? null;
  const closing = { ...scene.header({ parentPointId, stagingSessionId, deltaId }), cut };
  const blocks = { 0: { 7: 71 }, 1: { 7: 72 } };
  const durable = await store.openDelta({ ...closing, segmentCount: 2 });
  t.same(
    durable.map(({ segmentIndex }) => segmentIndex),
    [0],
  );
  const point = await scene.deliver(store, closing, blocks);
  const before = contentOfPoint(head?.sequence ?? 0);
  const content = before.with({ 0: { 6: 61 } }).with(blocks).values;
  t.same(await readBlocks(store, binding, VM, point?.pointId ?? ""), content);
  return { pointId: point?.pointId ?? "", sequence: point?.sequence ?? 0, content };
}
