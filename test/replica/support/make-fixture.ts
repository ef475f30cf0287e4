/**
 * Makes a store of the present format in the directory named, for
 * test/fixtures/formats: every kind of file, in little. Run once a format version.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { ReplicaStore } from "#lib/replica/replica-store.js";
import { openSegmentSink } from "#lib/replica/segment-sink.js";
import { binding } from "#lib/tracking/binding.js";
import { segmentSource } from "../../contracts/segment-bytes.js";
import { keepNewest } from "./keep-newest.js";
import { blocksOfPoint } from "./numbered-points.js";
import { Scene } from "./scene.js";

const [root = ""] = process.argv.slice(2);
const id = (last: number) => `00000000-0000-4000-8000-00000000000${last.toString(16)}`;
const disk = (last: number, name: string) => ({
  diskId: id(last),
  name,
  sizeBytes: 8 * 4096,
  granularityBytes: 4096,
});
const vm = { vmId: id(1), name: "guest", disks: [disk(2, "vda"), disk(3, "vdb")] };
const scene = new Scene(vm, { number: 1, id: id(4) });
const store = await ReplicaStore.open({ root, native: binding, openSink: openSegmentSink });
await store.enable(scene.vm, scene.generation);
let parentPointId: string | null = null;
const pointIds: string[] = [];
for (const sequence of [1, 2, 3, 4, 5]) {
  const header = scene.header({ deltaId: id(sequence + 4), parentPointId });
  parentPointId = (await scene.deliver(store, header, blocksOfPoint(sequence)))?.pointId ?? null;
  pointIds.push(parentPointId ?? "");
}
await keepNewest(store, vm.vmId, 4);
await store.retention.edit(vm.vmId, pointIds[2] ?? "", { label: "a label", isPinned: true });
await store.retention.delete(vm.vmId, pointIds[3] ?? "");
await store.retention.override(vm.vmId, { maxPoints: 7, quotaBytes: null });
const stagingSessionId = await store.openStaging(vm.vmId, scene.generation);
const session = { parentPointId, stagingSessionId };
const pass = scene.header({ ...session, deltaId: id(10), kind: "staging" });
await scene.deliver(store, pass, { 0: { 6: 61 } });
const closing = scene.header({ ...session, deltaId: id(11), segmentCount: 2 });
await store.openDelta(closing);
for (const segment of scene.segments(closing.deltaId, { 0: { 7: 71 } })) {
  await store.putSegment(segmentSource(segment));
}
await store.close();
await rm(join(root, "lock.db"));
