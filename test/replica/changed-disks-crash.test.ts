/** T25 T34: a crash at any step of a merge over disks that left and came back loses nothing. */
import t from "tap";
import type { DiskGeometry } from "#lib/model/disk.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { crashStates } from "./support/crash-states.js";
import { MemoryFiles } from "./support/memory-files.js";
import { plainLayers } from "./support/plain-layers.js";
import { RecordingFiles } from "./support/recording-files.js";
import {
  BLOCK_COUNT,
  type Blocks,
  GRANULARITY,
  openPlainStore,
  readDisk,
  Scene,
} from "./support/scene.js";
import { keepNewest } from "./support/keep-newest.js";

const ROOT = "/store";

t.setTimeout(240_000);

function newDisk(name: string, id: string): DiskGeometry {
  const geometry = { sizeBytes: BLOCK_COUNT * GRANULARITY, granularityBytes: GRANULARITY };
  return { diskId: `00000000-0000-4000-8000-0000000000${id}`, name, ...geometry };
}

const [VDA, VDB] = [newDisk("vda", "0a"), newDisk("vdb", "0b")];

/** What the disk's blocks are, in their order. */
const blocks = (values: Record<number, number>) =>
  Array.from({ length: BLOCK_COUNT }, (_, block) => values[block] ?? 0).join();

/** By the point's number, of the disks that it has. */
const EXPECTED: Readonly<Record<number, Record<string, string>>> = {
  1: { vda: blocks({ 0: 1, 1: 2 }), vdb: blocks({ 0: 3, 5: 4 }) },
  2: { vda: blocks({ 0: 1, 1: 12 }) },
  3: { vda: blocks({ 0: 1, 1: 12 }), vdb: blocks({ 1: 21 }) },
  4: { vda: blocks({ 0: 1, 1: 12, 2: 31 }), vdb: blocks({ 1: 21, 2: 32 }) },
};

async function wrongPoint(
  store: ReplicaStore,
  files: MemoryFiles,
  vmId: string,
): Promise<string | null> {
  for (const { pointId, sequence } of await store.points(vmId)) {
    const opened = await store.openPoint(vmId, pointId);
    const names = opened.disks.map(({ geometry }) => geometry.name);
    opened.release();
    const found: Record<string, string> = {};
    for (const [index, name] of names.entries()) {
      const content = await readDisk(store, plainLayers(files), vmId, pointId, index);
      const values = Array.from(
        { length: BLOCK_COUNT },
        (_, block) => content[block * GRANULARITY],
      );
      found[name] = values.join();
    }
    const isRight = JSON.stringify(found) === JSON.stringify(EXPECTED[sequence]);
    if (!isRight) return `point ${sequence}: ${JSON.stringify(found)}`;
  }
  return null;
}

void t.test("after a crash at any step of a merge each point has its own disks", async (t) => {
  const files = new RecordingFiles();
  const scene = new Scene();
  const { vmId } = scene.vm;
  const store = await openPlainStore(ROOT, files);
  await store.enable({ ...scene.vm, disks: [VDA, VDB] }, scene.generation);
  let head: string | null = null;
  const point = async (disks: readonly DiskGeometry[], changes: Blocks) => {
    const header = scene.header({ parentPointId: head, disks });
    head = (await scene.deliver(store, header, changes))?.pointId ?? null;
  };
  await point([VDA, VDB], { 0: { 0: 1, 1: 2 }, 1: { 0: 3, 5: 4 } });
  await keepNewest(store, vmId, 1);
  await point([VDA], { 0: { 1: 12 } });
  await point([VDA, VDB], { 1: { 1: 21 } });
  await point([VDA, VDB], { 0: { 2: 31 }, 1: { 2: 32 } });
  const from = files.events.length;
  for (const retained of [3, 2, 1]) await keepNewest(store, vmId, retained);
  t.equal(await wrongPoint(store, files, vmId), null, "without a crash");
  let count = 0;
  for (const state of crashStates(files.events, from)) {
    count += 1;
    const left = new MemoryFiles(state.tree);
    await using reopened = await openPlainStore(ROOT, left);
    const found = await wrongPoint(reopened, left, vmId);
    if (found !== null) t.fail(`${state.description}: ${found}`);
    await keepNewest(reopened, vmId, 1);
    const after = await wrongPoint(reopened, left, vmId);
    if (after !== null) t.fail(`${state.description}: then ${after}`);
    const { head: newest } = await reopened.status(vmId);
    if (newest?.sequence !== 4) t.fail(`${state.description}: the newest is gone`);
  }
  t.ok(count > 50, `${count} states`);
});
