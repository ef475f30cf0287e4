/**
 * `merge-layers make DIRECTORY CONTENT EXTENT_BYTES`: twelve layers of a disk that is half
 * holes, its extents dealt out to them in turns, and the same disk as a sparse file.
 * `merge-layers layer DIRECTORY`, `merge-layers base DIRECTORY`: merges them as a replica
 * does, into one layer or into an empty base, and prints what it took.
 */
import { open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runMerge } from "#lib/replica/run-merge.js";
import { binding } from "#lib/tracking/binding.js";

const LAYER_COUNT = 12;
const GRANULARITY_BYTES = 4096;
const DISK_ID = "00000000-0000-4000-8000-000000000001";

const [mode = "", directory = "", contentPath = "", extentText = "0"] = process.argv.slice(2);
const layerPaths = Array.from({ length: LAYER_COUNT }, (_, i) => join(directory, `${i}.layer`));
const geometryPath = join(directory, "disk.json");

const identity = (diskSizeBytes: number) => ({
  diskId: DISK_ID,
  lineage: DISK_ID,
  sequence: 1,
  diskSizeBytes,
  granularityBytes: GRANULARITY_BYTES,
});

async function make(extentBytes: number): Promise<void> {
  const content = await readFile(contentPath);
  const diskSizeBytes = 2 * content.length;
  const image = await open(join(directory, "image.raw"), "w");
  const writers = layerPaths.map((path) =>
    binding.layerSegmentWriter(path, 4096, content.length, GRANULARITY_BYTES),
  );
  for (let i = 0; i * extentBytes < content.length; i += 1) {
    const piece = content.subarray(i * extentBytes, (i + 1) * extentBytes);
    writers[i % LAYER_COUNT]?.append(2 * i * extentBytes, piece);
    await image.write(piece, 0, piece.length, 2 * i * extentBytes);
  }
  for (const [i, writer] of writers.entries()) {
    const blob = await writer.finish();
    await binding.sealLayer(layerPaths[i] ?? "", identity(diskSizeBytes), [blob]);
  }
  await image.truncate(diskSizeBytes);
  await image.sync();
  await image.close();
  await writeFile(geometryPath, JSON.stringify({ diskSizeBytes }));
}

async function merge(): Promise<void> {
  const { diskSizeBytes } = JSON.parse(await readFile(geometryPath, "utf8")) as {
    diskSizeBytes: number;
  };
  const target = join(directory, "merged");
  if (mode === "base") {
    const file = await open(target, "w");
    await file.truncate(diskSizeBytes);
    await file.close();
  }
  const startedAtMs = performance.now();
  const begun =
    mode === "base"
      ? await binding.mergeIntoBase(target, DISK_ID, diskSizeBytes, layerPaths)
      : await binding.mergeIntoLayer(target, identity(diskSizeBytes), layerPaths);
  const { dataBytes } = await runMerge(begun, {});
  const seconds = (performance.now() - startedAtMs) / 1000;
  process.stdout.write(`${JSON.stringify({ seconds, dataBytes })}\n`);
}

await (mode === "make" ? make(Number(extentText)) : merge());
