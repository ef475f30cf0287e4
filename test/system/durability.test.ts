/** Power-safe and process-safe tracking through the library. */
import { copyFile, open, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { type Durability, TrackedDisk, type TrackedDiskOptions } from "#lib/index.js";
import { binding } from "#lib/tracking/binding.js";
import { scratchDirectory } from "../support/program.js";

const MIB = 2 ** 20;
const REGION = 64 * MIB;
const REGION_COUNT = 4;
const BLOCK = 4096;
const directory = await scratchDirectory(t);
let fileCount = 0;

async function newDiskFile(): Promise<string> {
  fileCount += 1;
  const path = join(directory, `disk-${fileCount}.raw`);
  await writeFile(path, "");
  await truncate(path, REGION_COUNT * REGION);
  return path;
}

/** A disk that was closed cleanly before: nothing of it is marked. */
async function openQuiet(options: TrackedDiskOptions): Promise<TrackedDisk> {
  await (await TrackedDisk.open(options)).close();
  return TrackedDisk.open(options);
}

/** The bitmap as another boot of the machine would find it: its id is not this kernel's. */
async function copyOfOtherBoot(bitmapPath: string): Promise<string> {
  const path = `${bitmapPath}.copy`;
  await copyFile(bitmapPath, path);
  await using file = await open(path, "r+");
  const sector = Buffer.alloc(512);
  await file.read(sector, 0, 512, 0);
  sector.fill(0xb0, 88, 104);
  sector.writeUInt32LE(binding.crc32c(sector.subarray(0, 508), 0), 508);
  await file.write(sector, 0, 512, 0);
  return path;
}

const suspectBlocks = (disk: TrackedDisk) => disk.native.targets()[0]?.suspectBlocks;

void t.test("power-safe is the default: a region is marked by its first write alone", async (t) => {
  await using disk = await openQuiet({ path: await newDiskFile() });
  t.match(disk.durability(), {
    mode: "power-safe",
    regionBytes: REGION,
    regionCount: REGION_COUNT,
    markedRegions: 0,
    alarm: null,
  });
  await disk.write(2 * REGION, Buffer.alloc(BLOCK, 1));
  await disk.write(2 * REGION + 8 * BLOCK, Buffer.alloc(BLOCK, 1));
  t.equal(disk.durability().markedRegions, 1);
  t.match(disk.native.intentStatus(), { waitCount: 1, syncCount: 1 });
  const content = Buffer.alloc(BLOCK);
  await disk.read(2 * REGION, content);
  t.equal(content[0], 1);
});

void t.test("process-safe never waits", async (t) => {
  await using disk = await openQuiet({ path: await newDiskFile(), durability: "process-safe" });
  await disk.write(0, Buffer.alloc(BLOCK, 1));
  t.match(disk.durability(), { mode: "process-safe", markedRegions: REGION_COUNT, alarm: null });
  t.equal(disk.native.intentStatus().waitCount, 0);
});

void t.test("after the end of a boot, what was marked is suspect and travels", async (t) => {
  const expected: Record<Durability, number> = {
    "power-safe": REGION / BLOCK,
    "process-safe": (REGION_COUNT * REGION) / BLOCK,
  };
  for (const durability of ["power-safe", "process-safe"] as const) {
    const path = await newDiskFile();
    const options = { path, bitmapPath: `${path}.bitmap`, durability, lock: "none" as const };
    await using disk = await openQuiet(options);
    await disk.addTarget("replica", "nothing");
    await disk.write(REGION, Buffer.alloc(BLOCK, 1));
    const bitmapPath = await copyOfOtherBoot(options.bitmapPath);
    await using after = await TrackedDisk.open({ ...options, bitmapPath });
    t.equal(after.openedClean, false);
    t.equal(suspectBlocks(after), expected[durability], durability);
    const checkpoint = await after.checkpoint("replica");
    t.equal(suspectBlocks(after), 0);
    await checkpoint.rollback();
    t.ok((after.targets()[0]?.pendingBytes ?? 0) >= expected[durability] * BLOCK);
  }
});

void t.test("after a clean close nothing is suspect on another boot", async (t) => {
  for (const durability of ["power-safe", "process-safe"] as const) {
    const path = await newDiskFile();
    const options = { path, bitmapPath: `${path}.bitmap`, durability };
    const disk = await openQuiet(options);
    await disk.addTarget("replica", "nothing");
    await disk.write(REGION, Buffer.alloc(BLOCK, 1));
    await disk.close();
    const bitmapPath = await copyOfOtherBoot(options.bitmapPath);
    await using after = await TrackedDisk.open({ ...options, bitmapPath });
    t.equal(after.openedClean, true);
    t.equal(suspectBlocks(after), 0);
    t.equal(after.native.liveBlocks(), 1);
  }
});

void t.test("an unknown durability is refused", async (t) => {
  const durability = "disk-safe" as Durability;
  await t.rejects(TrackedDisk.open({ path: await newDiskFile(), durability }), {
    code: "INVALID_ARGUMENT",
    message: /disk-safe/,
  });
});
