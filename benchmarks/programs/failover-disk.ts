/**
 * `failover-disk make DIRECTORY BYTES EXTENTS`: a base with so much data at its beginning, of a
 * disk of 1 TiB, and 200 layers with so many extents each: half of them data there, half zeroes
 * anywhere. `flat.raw` is the same disk as a plain file.
 * `failover-disk raw|point|fold DIRECTORY SOCKET`: serves the plain file, the recovery point with
 * a scratch, or that while it is folded. Prints a line once its first block was read.
 */
import { execFile } from "node:child_process";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { binding, type NativeLayeredDevice } from "#lib/tracking/binding.js";
import { NbdServer } from "#lib/tracking/nbd-server.js";

const DISK_BYTES = 2 ** 40;
const LAYER_COUNT = 200;
const BLOCK = 4096;
const DISK_ID = "00000000-0000-4000-8000-000000000001";
const FOLD_STEP_BYTES = 1 << 20;
/** A fold takes its turn for a quarter of the time. */
const FOLD_PAUSE_FACTOR = 3;

const [mode = "", directory = "", third = "", fourth = ""] = process.argv.slice(2);
const layerPaths = Array.from({ length: LAYER_COUNT }, (_, i) => join(directory, `${i}.layer`));
const basePath = join(directory, "base.raw");

function* randomBlocks(seed: number, count: number, blockCount: number): Generator<number> {
  const seen = new Set<number>();
  for (let state = seed; seen.size < count; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const block = Math.floor((state / 2 ** 32) * blockCount);
    if (seen.has(block)) continue;
    seen.add(block);
    yield block;
  }
}

async function makeFile(path: string, dataBytes: number): Promise<void> {
  const file = await open(path, "w");
  const piece = Buffer.alloc(1 << 20, 0xb5);
  for (let at = 0; at < dataBytes; at += piece.length) await file.write(piece, 0, piece.length, at);
  await file.truncate(DISK_BYTES);
  await file.sync();
  await file.close();
}

async function makeLayer(index: number, dataBytes: number, extentCount: number): Promise<void> {
  const path = layerPaths[index] ?? "";
  const writer = binding.layerSegmentWriter(path, BLOCK, DISK_BYTES, BLOCK);
  const content = Buffer.alloc(BLOCK, index + 1);
  const half = Math.floor(extentCount / 2);
  for (const block of randomBlocks(index, half, dataBytes / BLOCK)) {
    writer.append(block * BLOCK, content);
  }
  const behind = dataBytes / BLOCK;
  for (const block of randomBlocks(index, half, DISK_BYTES / BLOCK - behind)) {
    writer.zero((behind + block) * BLOCK, BLOCK);
  }
  const identity = { diskId: DISK_ID, lineage: DISK_ID, sequence: index + 1 };
  const geometry = { diskSizeBytes: DISK_BYTES, granularityBytes: BLOCK };
  await binding.sealLayer(path, { ...identity, ...geometry }, [await writer.finish()]);
}

async function make(dataBytes: number, extentCount: number): Promise<void> {
  await makeFile(basePath, dataBytes);
  for (let i = 0; i < LAYER_COUNT; i += 1) await makeLayer(i, dataBytes, extentCount);
  const flatPath = join(directory, "flat.raw");
  await makeFile(flatPath, dataBytes);
  const merge = await binding.mergeIntoBase(flatPath, DISK_ID, DISK_BYTES, layerPaths);
  while (await merge.step(64 << 20));
  await merge.finish();
  await merge.close();
}

async function openPoint(foldPath: string) {
  const scratch = join(directory, `scratch-${process.pid}`);
  return binding.openLayeredDevice(DISK_ID, DISK_BYTES, BLOCK, foldPath, layerPaths, scratch);
}

async function fold(device: NativeLayeredDevice, path: string): Promise<void> {
  const folding = await device.fold(path);
  for (;;) {
    const startedAtMs = performance.now();
    if (!(await folding.step(FOLD_STEP_BYTES))) break;
    await delay((performance.now() - startedAtMs) * FOLD_PAUSE_FACTOR);
  }
  await folding.finish();
  await folding.close();
}

async function serve(socketPath: string): Promise<void> {
  setInterval(() => undefined, 1000); // it lives until it is told to end
  const server = await NbdServer.start({ socketPath, acceptsAtOnce: false });
  const foldedPath = join(directory, `folded-${process.pid}.raw`);
  if (mode === "fold") {
    await promisify(execFile)("cp", ["--sparse=always", basePath, foldedPath]);
  }
  const startedAtMs = performance.now();
  const flatPath = join(directory, "flat.raw");
  const point = mode === "raw" ? null : await openPoint(mode === "fold" ? foldedPath : basePath);
  const device = point ?? (await binding.openFileDevice(flatPath, false, false, "none"));
  server.addExport("", device, {});
  server.accept();
  await device.read(DISK_BYTES - BLOCK, Buffer.alloc(BLOCK));
  const usableMs = performance.now() - startedAtMs;
  process.stdout.write(`${JSON.stringify({ usableMs })}\n`);
  if (mode !== "fold" || point === null) return;
  const foldStartedAtMs = performance.now();
  await fold(point, foldedPath);
  const foldSeconds = (performance.now() - foldStartedAtMs) / 1000;
  process.stdout.write(`${JSON.stringify({ foldSeconds })}\n`);
}

await (mode === "make" ? make(Number(third), Number(fourth)) : serve(third));
