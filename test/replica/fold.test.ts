/** A served recovery point becomes a plain disk under an NBD client that goes on writing. */
import { randomUUID } from "node:crypto";
import { readFile, rename, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { binding } from "#lib/tracking/binding.js";
import { NbdServer } from "#lib/tracking/nbd-server.js";
import { skipWithout, succeeds } from "../support/foreign-tools.js";
import { NbdClient } from "./support/nbd-client.js";
import { temporaryDirectory } from "./support/native-scene.js";

const BLOCK = 4096;
const BLOCKS = 2048;
const SIZE_BYTES = BLOCKS * BLOCK;
const LAYERS = 5;

/** Layer i has every block that i divides, and says in its bytes which it is. */
async function makeLayers(root: string, diskId: string, disk: Buffer): Promise<string[]> {
  const paths: string[] = [];
  for (let layer = 1; layer <= LAYERS; layer += 1) {
    const path = join(root, `${layer}.layer`);
    const writer = binding.layerSegmentWriter(path, BLOCK, SIZE_BYTES, BLOCK);
    for (let block = layer; block < BLOCKS; block += layer * 7) {
      const isZero = block % 5 === 0;
      disk.fill(isZero ? 0 : layer, block * BLOCK, (block + 1) * BLOCK);
      if (isZero) writer.zero(block * BLOCK, BLOCK);
      else writer.append(block * BLOCK, Buffer.alloc(BLOCK, layer));
    }
    const identity = { diskId, lineage: diskId, sequence: layer, diskSizeBytes: SIZE_BYTES };
    await binding.sealLayer(path, { ...identity, granularityBytes: BLOCK }, [
      await writer.finish(),
    ]);
    paths.push(path);
  }
  return paths;
}

async function scene(t: Test, baseBytes: number) {
  const root = await temporaryDirectory(t);
  const diskId = randomUUID();
  const basePath = join(root, "base.raw");
  const disk = Buffer.alloc(Math.max(SIZE_BYTES, baseBytes));
  if (baseBytes > 0) {
    disk.fill(0xb0, 0, baseBytes);
    await writeFile(basePath, disk.subarray(0, baseBytes));
  }
  const layers = await makeLayers(root, diskId, disk);
  const open = (base: string) =>
    binding.openLayeredDevice(diskId, SIZE_BYTES, BLOCK, base, layers, join(root, "scratch"));
  return { root, basePath, disk: disk.subarray(0, SIZE_BYTES), open };
}

async function serve(
  t: Test,
  root: string,
  device: Awaited<ReturnType<typeof binding.faultDevice>>,
) {
  const socketPath = join(root, `${randomUUID().slice(0, 8)}.sock`);
  const server = await NbdServer.start({ socketPath });
  t.teardown(() => server.close());
  server.addExport("vda", device, {});
  return { server, client: await NbdClient.connect(socketPath, "vda") };
}

async function writeSome(client: NbdClient, disk: Buffer, seed: number): Promise<void> {
  const block = (seed * 7919) % (BLOCKS - 2);
  const lengthBytes = seed % 3 === 0 ? 2 * BLOCK : 1000 + (seed % 3000);
  const content = Buffer.alloc(lengthBytes, seed);
  content.copy(disk, block * BLOCK + (seed % 7));
  await client.write(block * BLOCK + (seed % 7), content);
}

async function readAll(client: NbdClient): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let block = 0; block < BLOCKS; block += 8) {
    parts.push(await client.read(block * BLOCK, 8 * BLOCK));
  }
  return Buffer.concat(parts);
}

const noQemu = await skipWithout("qemu-img");

for (const [name, baseBytes] of [
  ["no base", 0],
  ["a shorter base", 1_234_567],
  ["a longer base", SIZE_BYTES + 12_345],
] as const) {
  void t.test(`a point on ${name} is folded under its guest, and is a plain file`, async (t) => {
    const { root, basePath, disk, open } = await scene(t, baseBytes);
    const layered = await open(baseBytes === 0 ? "" : basePath);
    // Whatever has taken the device over, it can be folded.
    const { server, client } = await serve(t, root, binding.faultDevice(layered));
    await using _client = client;
    for (let seed = 1; seed < 40; seed += 1) await writeSome(client, disk, seed);
    const fold = await layered.fold(basePath);
    await t.rejects(layered.fold(basePath), { code: "IN_USE" });
    let seed = 100;
    const positions: number[] = [];
    while (await fold.step(64 * BLOCK)) {
      positions.push(fold.positionBytes);
      for (const end = seed + 5; seed < end; seed += 1) await writeSome(client, disk, seed);
    }
    t.ok(positions.length > 3);
    t.same(
      positions,
      positions.toSorted((a, b) => a - b),
    );
    await fold.finish();
    await fold.close();
    for (seed = 300; seed < 320; seed += 1) await writeSome(client, disk, seed);
    t.ok((await readAll(client)).equals(disk), "the guest sees it so");
    await server.close();
    t.ok((await readFile(basePath)).equals(disk), "and it is the file");
    if (noQemu !== false) return;
    const expected = join(root, "expected.raw");
    await writeFile(expected, disk);
    t.match(
      await succeeds(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", basePath, expected),
      /identical/,
    );
  });
}

void t.test(
  "a fold that was left in the middle goes on where the disk is opened again",
  async (t) => {
    const { basePath, disk, open } = await scene(t, SIZE_BYTES);
    for (const steps of [3, 2]) {
      const layered = await open(basePath);
      const fold = await layered.fold(basePath);
      for (let i = 0; i < steps; i += 1) await fold.step(32 * BLOCK);
      const content = Buffer.alloc(500, steps);
      content.copy(disk, 33 * BLOCK);
      await layered.write(33 * BLOCK, content);
      await layered.flush();
      await fold.close();
      await layered.close();
    }
    const layered = await open(basePath);
    const fold = await layered.fold(basePath);
    await fold.finish();
    await fold.close();
    await layered.close();
    t.ok((await readFile(basePath)).equals(disk));
  },
);

void t.test("a base may have another name by the time it is folded", async (t) => {
  const { root, basePath, disk, open } = await scene(t, SIZE_BYTES);
  const layered = await open(basePath);
  const moved = join(root, "moved.raw");
  await rename(basePath, moved);
  await writeFile(basePath, "another file");
  await t.rejects(layered.fold(basePath), { code: "INVALID_ARGUMENT" });
  const fold = await layered.fold(moved);
  await fold.finish();
  await fold.close();
  await layered.close();
  t.ok((await readFile(moved)).equals(disk));
});

void t.test("a fold says why it is refused", async (t) => {
  const { root, basePath, open } = await scene(t, SIZE_BYTES);
  const layered = await open(basePath);
  await t.rejects(layered.fold(join(root, "other.raw")), { code: "INVALID_ARGUMENT" });
  const fold = await layered.fold(basePath);
  await fold.close();
  t.throws(() => fold.step(1), { code: "CLOSED" });
  await layered.close();
  t.throws(() => layered.fold(basePath), { code: "CLOSED" });
  await t.rejects(open(""), { code: "FOREIGN" });
  await truncate(basePath, SIZE_BYTES / 2);
  await t.rejects(open(basePath), { code: "FOREIGN" });
});
