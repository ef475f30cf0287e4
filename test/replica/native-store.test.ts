/** The store as a host runs it: over the addon, on real files, with the library's own decoder. */
import { mkdtemp, readdir, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { ReplicaStore } from "#lib/replica/replica-store.js";
import { openSegmentSink } from "#lib/replica/segment-sink.js";
import { binding } from "#lib/tracking/binding.js";
import { replicaEndpointContract } from "../contracts/replica-endpoint.js";
import { encodeSegment, type PlainSegment } from "../contracts/segment-bytes.js";
import { openNativeStore, temporaryDirectory } from "./support/native-scene.js";
import { GRANULARITY, readDisk, Scene } from "./support/scene.js";

replicaEndpointContract(t, "replica store", async () => {
  const root = await mkdtemp(join(tmpdir(), "tidemark-replica-"));
  const store = await ReplicaStore.open({ root, native: binding, openSink: openSegmentSink });
  return {
    endpoint: store,
    readPoint: (vmId, pointId, diskIndex) => readDisk(store, binding, vmId, pointId, diskIndex),
    close: async () => {
      await store.close();
      await rm(root, { recursive: true });
    },
  };
});

void t.test("a segment that is given up leaves no file open", async (t) => {
  const scene = new Scene();
  const store = await openNativeStore(t, await temporaryDirectory(t));
  await store.enable(scene.vm, scene.generation);
  const header = scene.header({ segmentCount: 1 });
  const { vmId, deltaId, attempt } = header;
  await store.openDelta(header);
  const [segment] = scene.segments(deltaId, { 0: { 0: 1, 1: 2 } });
  const bytes = encodeSegment(segment as PlainSegment);
  const place = { vmId, deltaId, attempt, segmentIndex: 0, contentBytes: 2 * GRANULARITY };
  const slot = await store.reserveSegment(place);
  const sink = await openSegmentSink(slot);
  await sink.write(bytes.subarray(0, bytes.length - 10));
  t.equal((await openLayers()).length, 1);
  await sink.abort();
  t.same(await openLayers(), []);
  await store.abortSegment(slot);
});

async function openLayers(): Promise<string[]> {
  const targets = (await readdir("/proc/self/fd")).map((fd) =>
    readlink(`/proc/self/fd/${fd}`).catch(() => ""),
  );
  return (await Promise.all(targets)).filter((target) => target.endsWith(".layer"));
}
