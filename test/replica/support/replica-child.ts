/**
 * A replica that commits one point after the other until something ends it. A
 * line on its standard output for each acknowledged one. What point n holds
 * follows from n alone.
 */
import { randomUUID } from "node:crypto";
import { ReplicaStore } from "#lib/replica/replica-store.js";
import { openSegmentSink } from "#lib/replica/segment-sink.js";
import { binding } from "#lib/tracking/binding.js";
import { blocksOfPoint } from "./numbered-points.js";
import { Scene } from "./scene.js";

const [root = "", vmJson = "", generationJson = "", countText = "0"] = process.argv.slice(2);
const scene = new Scene(JSON.parse(vmJson), JSON.parse(generationJson));
const store = await ReplicaStore.open({ root, native: binding, openSink: openSegmentSink });
const { head } = await store.enable(scene.vm, scene.generation);
let parent = head;
for (let made = 0; made < Number(countText); made += 1) {
  const sequence: number = (parent?.sequence ?? 0) + 1;
  const header = scene.header({ deltaId: randomUUID(), parentPointId: parent?.pointId ?? null });
  parent = await scene.deliver(store, header, blocksOfPoint(sequence));
  process.stdout.write(`${parent?.sequence} ${parent?.pointId}\n`);
}
await store.close();
