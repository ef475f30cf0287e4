/**
 * The order in which a checkpoint is read: what tends to be written again comes
 * first, so that less has to be copied before a guest overwrites it. Counted, not timed.
 */
import { join } from "node:path";
import t from "tap";
import { type Checkpoint, TrackedDisk } from "#lib/index.js";
import { memoryDevice } from "#lib/testing.js";
import { BlockHeat } from "#lib/tracking/block-heat.js";
import { scratchDirectory } from "../support/program.js";
import { SeededRandom } from "../support/seeded-random.js";
import { Zipf } from "../support/zipf.js";

const BLOCK = 4096;
const BLOCKS = 8192;
const SEGMENT_BYTES = 32 * BLOCK;
const TARGET = "replica";
const directory = await scratchDirectory(t);

t.setTimeout(300_000);

async function newDisk(name: string): Promise<TrackedDisk> {
  const bitmapPath = join(directory, `${name}.tidemark`);
  const options = { path: name, bitmapPath, granularityBytes: BLOCK };
  return TrackedDisk.track(memoryDevice(BLOCKS * BLOCK), options);
}

const blocksOf = (checkpoint: Checkpoint): number[][] =>
  checkpoint.segments.map(({ extents }) => {
    const blocks: number[] = [];
    for (let i = 0; i < extents.length; i += 2) {
      const first = (extents[i] ?? 0) / BLOCK;
      for (let n = 0; n < (extents[i + 1] ?? 0) / BLOCK; n += 1) blocks.push(first + n);
    }
    return blocks;
  });

void t.test("heat counts the cuts before, of which it keeps seven", (t) => {
  const heat = new BlockHeat();
  const seen: number[] = [];
  for (let cut = 0; cut < 10; cut += 1) {
    heat.beginCut(BLOCK);
    if (cut !== 4) seen.push(heat.touch(5));
    t.equal(heat.touch(100_000 + cut), 0);
  }
  t.same(seen, [0, 1, 2, 3, 4, 5, 6, 6, 6]);
  heat.beginCut(2 * BLOCK);
  t.equal(heat.touch(5), 0, "of other blocks nothing is known");
  t.end();
});

void t.test("of very many blocks the ones of long ago are forgotten", (t) => {
  const heat = new BlockHeat();
  heat.beginCut(BLOCK);
  for (let chunk = 0; chunk < 1100; chunk += 1) heat.touch(chunk * 4096);
  heat.beginCut(BLOCK);
  t.equal(heat.touch(1099 * 4096), 1);
  t.equal(heat.touch(0), 0);
  t.end();
});

void t.test("hot blocks are in the first segments; each block is in one, ascending", async (t) => {
  await using disk = await newDisk("hot-first");
  await disk.addTarget(TARGET, "nothing");
  const random = new SeededRandom(3);
  const hot = new Set(Array.from({ length: 96 }, () => random.below(BLOCKS)));
  const cold = Array.from({ length: 6 }, () =>
    Array.from({ length: 400 }, () => random.below(BLOCKS)).filter((block) => !hot.has(block)),
  );
  for (const [cycle, blocks] of cold.entries()) {
    for (const block of [...hot, ...blocks])
      await disk.write(block * BLOCK, Buffer.alloc(BLOCK, 1));
    await using checkpoint = await disk.checkpoint(TARGET, { segmentBytes: SEGMENT_BYTES });
    const segments = blocksOf(checkpoint);
    for (const segment of segments)
      t.same(
        segment,
        [...segment].sort((a, b) => a - b),
      );
    const all = segments.flat();
    t.same(
      all.toSorted((a, b) => a - b),
      [...new Set([...hot, ...blocks])].sort((a, b) => a - b),
    );
    t.same(
      checkpoint.segments.map(({ segmentIndex }) => segmentIndex),
      [...segments.keys()],
    );
    if (cycle === 0)
      t.same(
        all,
        all.toSorted((a, b) => a - b),
        "nothing is known yet",
      );
    if (cycle === 5) {
      const isHot = all.slice(0, hot.size).map((block) => hot.has(block));
      t.equal(isHot.filter(Boolean).length, hot.size, "all that was in each cut, first");
    }
    await checkpoint.commit();
  }
});

/** Cycles under a skewed load: while a segment travels the guest writes on. Counts the copies. */
async function copiedBlocks(name: string, isInDiskOrder: boolean): Promise<number> {
  await using disk = await newDisk(name);
  await disk.addTarget(TARGET, "nothing");
  const zipf = new Zipf(BLOCKS, 0.99, 17);
  const content = Buffer.alloc(BLOCKS * BLOCK);
  let stamp = 0;
  const write = async () => {
    const block = Buffer.alloc(BLOCK);
    block.writeUInt32LE((stamp += 1));
    const at = zipf.next() * BLOCK;
    block.copy(content, at);
    await disk.write(at, block);
  };
  let copied = 0;
  for (let cycle = 0; cycle < 10; cycle += 1) {
    for (let n = 0; n < 1500; n += 1) await write();
    await using checkpoint = await disk.checkpoint(TARGET, { segmentBytes: SEGMENT_BYTES });
    const atCut = Buffer.from(content);
    const plans = isInDiskOrder ? inDiskOrder(checkpoint) : checkpoint.segments;
    for (const plan of plans) {
      for (let n = 0; n < 40; n += 1) await write();
      for (let i = 0; i < plan.extents.length; i += 2) {
        const [at = 0, length = 0] = plan.extents.subarray(i, i + 2);
        const read = await checkpoint.disks[0]?.read(at, length);
        if (!atCut.subarray(at, at + length).equals(read ?? Buffer.alloc(0))) {
          throw new Error(`The content at ${at} is not that of the cut.`);
        }
      }
      checkpoint.release(plan);
    }
    if (cycle >= 5) copied += checkpoint.savedBytes() / BLOCK;
    await checkpoint.commit();
  }
  return copied;
}

/** The same blocks in segments of the same size, as if nothing were known. */
function inDiskOrder({ segments }: Checkpoint) {
  const [first] = segments;
  if (first === undefined) return [];
  const runs = segments.flatMap(({ extents }) =>
    Array.from({ length: extents.length / 2 }, (_none, i): [number, number] => [
      extents[2 * i] ?? 0,
      extents[2 * i + 1] ?? 0,
    ]),
  );
  const groups: number[][] = [];
  let roomBytes = 0;
  for (const [at, length] of runs.sort(([a], [b]) => a - b)) {
    if (length > roomBytes) {
      groups.push([]);
      roomBytes = SEGMENT_BYTES;
    }
    groups.at(-1)?.push(at, length);
    roomBytes -= length;
  }
  return groups.map((pairs) => ({ ...first, extents: Float64Array.from(pairs) }));
}

void t.test("a skewed load has fewer blocks copied, and every read is of the cut", async (t) => {
  const unordered = await copiedBlocks("in-disk-order", true);
  const ordered = await copiedBlocks("hot-first-load", false);
  t.comment(`copied before a write: ${ordered} blocks, ${unordered} in disk order`);
  t.ok(ordered > 0 && ordered < unordered * 0.8, `${ordered} of ${unordered}`);
});
