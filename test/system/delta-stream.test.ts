/** Deltas as streams: restored whole, refused when damaged, and read by a codec that shares no code. */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { Readable } from "node:stream";
import fc from "fast-check";
import t from "tap";
import {
  type Checkpoint,
  ConsistencyGroup,
  DeltaDecoder,
  TidemarkError,
  TrackedDisk,
} from "#lib/index.js";
import { memoryDevice } from "#lib/testing.js";
import { encodeDeltaHeader } from "#lib/tracking/delta-format.js";
import { SegmentDecoder } from "#lib/tracking/segment-decoder.js";
import { decodeSegment, encodeSegment, type PlainRecord } from "../contracts/segment-bytes.js";
import { scratchDirectory } from "../support/program.js";

const BLOCK = 4096;
const directory = await scratchDirectory(t);
let diskCount = 0;

function memoryDisk(sizeBytes: number): Promise<TrackedDisk> {
  diskCount += 1;
  return TrackedDisk.track(memoryDevice(sizeBytes), { path: join(directory, `disk-${diskCount}`) });
}

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

interface Sample {
  readonly bytes: Buffer;
  readonly contents: readonly Buffer[];
}

/** Two disks, some blocks random, some zero, in segments of 64 KiB. */
async function sampleDelta(): Promise<Sample> {
  const disks = [await memoryDisk(40 * BLOCK), await memoryDisk(70 * BLOCK)];
  const contents = disks.map((disk) => Buffer.alloc(disk.sizeBytes));
  for (const [index, disk] of disks.entries()) {
    await disk.addTarget("t", "nothing");
    for (let block = index; block < 20; block += 3) {
      const data = Buffer.alloc(BLOCK, block % 4 === 0 ? 0 : block);
      await disk.write(block * BLOCK, data);
      data.copy(contents[index] ?? data, block * BLOCK);
    }
  }
  await using checkpoint = await new ConsistencyGroup(disks).checkpoint("t", {
    segmentBytes: 4 * BLOCK,
  });
  const bytes = await collect(checkpoint.delta("t"));
  await checkpoint.commit();
  for (const disk of disks) await disk.close();
  return { bytes, contents };
}

/** Chunks whose memory is used again, as a socket's may be. */
async function* inChunks(bytes: Buffer, chunkBytes: number): AsyncGenerator<Buffer> {
  const memory = Buffer.alloc(chunkBytes);
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    const length = bytes.copy(memory, 0, at, at + chunkBytes);
    yield memory.subarray(0, length);
    memory.fill(0xee);
  }
}

/** Every record as text; the header's ids too, so that equal means equal. */
async function decoded(source: AsyncIterable<Uint8Array>): Promise<string> {
  const decoder = new DeltaDecoder(source);
  const records: unknown[] = [];
  for await (const record of decoder) {
    const content = record.type === "data" ? Buffer.from(record.data).toString("base64") : "";
    records.push({ ...record, data: content });
  }
  return JSON.stringify([decoder.header, records]);
}

async function restore(sample: Sample, chunkBytes: number): Promise<Buffer[]> {
  const decoder = new DeltaDecoder(inChunks(sample.bytes, chunkBytes));
  const restored = sample.contents.map((content) => Buffer.alloc(content.length));
  for await (const record of decoder) {
    const disk = restored[record.diskIndex];
    if (record.type === "data") disk?.set(record.data, record.offsetBytes);
    else disk?.fill(0, record.offsetBytes, record.offsetBytes + record.lengthBytes);
  }
  return restored;
}

const REFUSALS = ["CORRUPT", "TRUNCATED", "VERSION_UNKNOWN"];

async function refusalOf(bytes: Buffer, chunkBytes = 1000): Promise<string> {
  try {
    return await decoded(inChunks(bytes, chunkBytes));
  } catch (thrown) {
    if (thrown instanceof TidemarkError && REFUSALS.includes(thrown.code)) return thrown.code;
    throw thrown;
  }
}

const sample = await sampleDelta();
const whole = await decoded(inChunks(sample.bytes, 4096));

void t.test("a delta restores the disks, however it is cut into chunks", async (t) => {
  for (const chunkBytes of [1, 7, 4096, 65_537, sample.bytes.length]) {
    const restored = await restore(sample, chunkBytes);
    t.ok(restored.every((disk, index) => disk.equals(sample.contents[index] ?? Buffer.alloc(0))));
  }
});

void t.test("any flipped byte is refused or changes nothing", async (t) => {
  const property = fc.asyncProperty(
    fc.nat(sample.bytes.length - 1),
    fc.integer({ min: 1, max: 255 }),
    fc.integer({ min: 400, max: 9000 }),
    async (at, mask, chunkBytes) => {
      const damaged = Buffer.from(sample.bytes);
      damaged[at] = (damaged[at] ?? 0) ^ mask;
      const outcome = await refusalOf(damaged, chunkBytes);
      return REFUSALS.includes(outcome) || outcome === whole;
    },
  );
  await fc.assert(property, { seed: 2, numRuns: 200 });
  let changed = 0;
  for (let at = 0; at < 140; at += 1) {
    const damaged = Buffer.from(sample.bytes);
    damaged[at] = (damaged[at] ?? 0) ^ 0x41;
    const outcome = await refusalOf(damaged);
    if (!REFUSALS.includes(outcome) && outcome !== whole) changed += 1;
  }
  t.equal(changed, 0, "every byte of the headers");
});

void t.test("any truncation is TRUNCATED, and nothing may follow the end", async (t) => {
  const property = fc.asyncProperty(fc.nat(sample.bytes.length - 1), async (length) => {
    return (await refusalOf(sample.bytes.subarray(0, length))) === "TRUNCATED";
  });
  await fc.assert(property, { seed: 3, numRuns: 150 });
  t.equal(await refusalOf(Buffer.concat([sample.bytes, Buffer.alloc(1)])), "CORRUPT");
  const other = await sampleDelta();
  const spliced = Buffer.concat([
    sample.bytes.subarray(0, sample.bytes.length / 2),
    other.bytes.subarray(other.bytes.length / 2),
  ]);
  t.equal(await refusalOf(spliced), "CORRUPT", "halves of two deltas do not make one");
});

/** A delta of one segment with sound checksums, whatever it says. */
function forged(sizeBytes: number, offset: number, length: number, granularity = BLOCK): Buffer {
  const deltaId = randomUUID();
  const disks = [{ diskId: randomUUID(), sizeBytes, granularityBytes: BLOCK }];
  const header = encodeDeltaHeader({ deltaId, segmentCount: 1, disks });
  const records = [{ offset, length, data: Buffer.alloc(length, 1) }];
  const segment = encodeSegment({ deltaId, diskIndex: 0, segmentIndex: 0, granularity, records });
  return Buffer.concat([header, segment]);
}

void t.test("a record that does not fit its disk is CORRUPT", async (t) => {
  t.match(
    await refusalOf(forged(10 * BLOCK + 512, 10 * BLOCK, 512)),
    /data/,
    "the disk's end fits",
  );
  t.equal(await refusalOf(forged(10 * BLOCK, 10 * BLOCK, BLOCK)), "CORRUPT", "behind the end");
  t.equal(await refusalOf(forged(10 * BLOCK, 9 * BLOCK, 2 * BLOCK)), "CORRUPT", "across the end");
  t.equal(await refusalOf(forged(10 * BLOCK, 0, 512)), "CORRUPT", "part of a block");
  t.equal(await refusalOf(forged(10 * BLOCK, 512, 512, 512)), "CORRUPT", "another granularity");
});

void t.test(
  "the encoder says what an independent decoder reads from the format's text",
  async (t) => {
    const property = fc.asyncProperty(
      fc.uniqueArray(fc.nat(63), { minLength: 1, maxLength: 40 }),
      fc.integer({ min: 1, max: 12 }),
      async (blocks, blocksInSegment) => {
        await using disk = await memoryDisk(64 * BLOCK - 512);
        await disk.addTarget("t", "nothing");
        const content = Buffer.alloc(64 * BLOCK - 512);
        for (const block of blocks) {
          const data = Buffer.alloc(block === 63 ? BLOCK - 512 : BLOCK, block % 5);
          await disk.write(block * BLOCK, data);
          data.copy(content, block * BLOCK);
        }
        const segmentBytes = blocksInSegment * BLOCK;
        await using checkpoint = await disk.checkpoint("t", { segmentBytes });
        const held = await plainlyDecoded(checkpoint, content.length);
        return held.blocks === blocks.length && held.content.equals(content);
      },
    );
    await fc.assert(property, { seed: 4, numRuns: 25 });
    t.pass("over 25 disks");
  },
);

async function plainlyDecoded(checkpoint: Checkpoint, sizeBytes: number) {
  const content = Buffer.alloc(sizeBytes, 0);
  const deltaId = randomUUID();
  let coveredBytes = 0;
  for (const plan of checkpoint.segments) {
    const bytes = await collect(
      Readable.from(copies(checkpoint.source(deltaId, plan).records()), { objectMode: false }),
    );
    const segment = decodeSegment(bytes);
    if (segment.deltaId !== deltaId) throw new Error("another delta's id");
    for (const { offsetBytes, lengthBytes, content: data } of segment.extents) {
      if (data === null) content.fill(0, offsetBytes, offsetBytes + lengthBytes);
      else content.set(data, offsetBytes);
      coveredBytes += lengthBytes;
    }
  }
  return { content, blocks: Math.ceil(coveredBytes / BLOCK) };
}

async function* copies(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) yield Buffer.from(chunk);
}

/** Neighbouring or apart, data or zeroes, ascending. */
const plainRecords = fc
  .array(
    fc.record({
      gap: fc.nat(3),
      blocks: fc.integer({ min: 1, max: 4 }),
      fill: fc.integer({ min: 0, max: 255 }),
      isZero: fc.boolean(),
    }),
    { maxLength: 20 },
  )
  .map((parts) => {
    let end = 0;
    return parts.map(({ gap, blocks, fill, isZero }): PlainRecord => {
      const [offset, length] = [end + gap * BLOCK, blocks * BLOCK];
      end = offset + length;
      return { offset, length, data: isZero ? null : Buffer.alloc(length, fill) };
    });
  });

function readBack(decoder: SegmentDecoder, bytes: Buffer, chunkBytes: number): PlainRecord[] {
  const records: PlainRecord[] = [];
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    for (const found of decoder.push(bytes.subarray(at, at + chunkBytes))) {
      const data = found.type === "data" ? Buffer.from(found.data) : null;
      const length = found.type === "data" ? found.data.length : found.lengthBytes;
      records.push({ offset: found.offsetBytes, length, data });
    }
  }
  decoder.finish();
  return records;
}

void t.test("the decoder reads what an independent encoder wrote from the format's text", (t) => {
  const property = fc.property(
    plainRecords,
    fc.integer({ min: 1, max: 5000 }),
    (records, chunk) => {
      const segment = { deltaId: randomUUID(), diskIndex: 3, segmentIndex: 5, granularity: BLOCK };
      const decoder = new SegmentDecoder();
      const read = readBack(decoder, encodeSegment({ ...segment, records }), chunk);
      const { deltaId, diskIndex, segmentIndex, granularityBytes } = decoder.header ?? {};
      const header = { deltaId, diskIndex, segmentIndex, granularity: granularityBytes };
      return JSON.stringify([header, read]) === JSON.stringify([segment, records]);
    },
  );
  fc.assert(property, { seed: 5, numRuns: 100 });
  t.end();
});
