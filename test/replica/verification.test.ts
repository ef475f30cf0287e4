/** A verification finds what rotted, names it, and nothing else; it changes no file. */
import { createHash } from "node:crypto";
import { open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import t, { type Test } from "tap";
import type { Damage, VerificationStatus } from "#lib/model/verification.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { Verifications } from "#lib/replica/verifications.js";
import { SeededRandom } from "../support/seeded-random.js";
import { openNativeStore, temporaryDirectory } from "./support/native-scene.js";
import { GRANULARITY, Scene } from "./support/scene.js";
import { sleeplessClock, verified } from "./support/verified.js";
import { keepNewest } from "./support/keep-newest.js";

interface Kept {
  readonly root: string;
  readonly directory: string;
  readonly scene: Scene;
  readonly store: ReplicaStore;
}

/** Points 3, 4 and 5 above a base that holds 3. */
async function keep(t: Test): Promise<Kept> {
  const root = await temporaryDirectory(t);
  const scene = new Scene();
  const store = await openNativeStore(t, root);
  await store.enable(scene.vm, scene.generation);
  let parent: string | null = null;
  const changes = [
    { 0: { 0: 11, 1: 12, 2: 13 }, 1: { 0: 14 } },
    { 0: { 1: 22, 2: 0 } },
    { 0: { 3: 31 }, 1: { 4: 32 } },
    { 0: { 0: 41, 4: 42, 5: 43 } },
    { 0: { 4: 51 }, 1: { 0: 0, 1: 52 } },
  ];
  for (const blocks of changes) parent = (await scene.point(store, parent, blocks)).pointId;
  await keepNewest(store, scene.vm.vmId, 3);
  return { root, directory: join(root, "vms", scene.vm.vmId), scene, store };
}

async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((one) => one.isFile()).map((one) => join(one.parentPath, one.name));
}

async function digests(directory: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const path of await filesBelow(directory)) {
    if (path.endsWith("verification.json")) continue;
    found[relative(directory, path)] = createHash("sha256")
      .update(await readFile(path))
      .digest("hex");
  }
  return found;
}

async function flip(path: string, offset: number): Promise<void> {
  await using file = await open(path, "r+");
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, offset);
  byte[0] = (byte[0] ?? 0) ^ 0x10;
  await file.write(byte, 0, 1, offset);
}

/** The layer whose data area holds a block of this value, and where. */
async function dataOf(directory: string, value: number): Promise<{ path: string; offset: number }> {
  for (const path of await filesBelow(join(directory, "epochs"))) {
    if (!path.endsWith(".layer")) continue;
    const offset = (await readFile(path)).indexOf(Buffer.alloc(GRANULARITY, value), 4096);
    if (offset >= 0) return { path, offset };
  }
  throw new Error(`no layer holds a block of ${value}`);
}

const damageOf = ({ damage }: VerificationStatus) =>
  damage.map(({ kind, file, diskName, pointSequence, extents }: Damage) => ({
    kind,
    file,
    diskName,
    pointSequence,
    extents,
  }));

void t.test("an undamaged replica is good, and verifying it changes no file", async (t) => {
  const { directory, scene, store } = await keep(t);
  const before = await digests(directory);
  const status = await verified(t, store, scene.vm.vmId);
  t.same(damageOf(status), []);
  t.equal(status.last?.result, "good");
  t.equal(status.last?.unknownBytes, 0);
  // Base: blocks 0, 1 and 3 of vda, 0 and 4 of vdb; layers: 0, 4, 5, then 4 and 1.
  t.equal(status.last?.verifiedBytes, (5 + 3 + 2) * GRANULARITY);
  t.same(status.damagedPoints, []);
  t.same(await digests(directory), before, "G5");
});

interface Rot {
  readonly name: string;
  readonly place: (directory: string, scene: Scene) => Promise<{ path: string; offset: number }>;
  readonly kind: Damage["kind"];
  readonly disk: string | null;
  readonly pointSequence: number;
  readonly extents: readonly number[];
  readonly points: readonly number[];
}

const block = (index: number, count = 1) => [index * GRANULARITY, count * GRANULARITY];
const base = (diskIndex: number, name: string, offset: number) => {
  return async (directory: string, scene: Scene) => {
    const diskId = scene.vm.disks[diskIndex]?.diskId ?? "";
    return { path: join(directory, "disks", diskId, name), offset };
  };
};
const fileAt = (...names: string[]) => {
  return async (directory: string) => {
    const path = join(directory, ...names);
    return { path, offset: (await stat(path)).size >> 1 };
  };
};
const manifest = (sequence: number) =>
  fileAt("epochs", "0000000001", "points", `${String(sequence).padStart(12, "0")}.json`);

/** Of the layer that holds the value; from its begin or, negative, from its end. */
const inLayer = (value: number, at: number) => async (directory: string) => {
  const { path } = await dataOf(directory, value);
  return { path, offset: at < 0 ? (await stat(path)).size + at : at };
};
const inIndex = (value: number) => async (directory: string) => {
  const { path } = await dataOf(directory, value);
  const content = await readFile(path);
  return { path, offset: Number(content.readBigUInt64LE(content.length - 64 + 8)) + 9 };
};

type Found = Omit<Rot, "name" | "place">;

const inData = (index: number, points: readonly number[]): Found => {
  return { kind: "data", disk: "vda", pointSequence: 4, extents: block(index), points };
};
const inBase = (disk: string, index: number, points: readonly number[]): Found => {
  return { kind: "base", disk, pointSequence: 3, extents: block(index), points };
};
const inDocument = (pointSequence: number, points: readonly number[]): Found => {
  return { kind: "document", disk: null, pointSequence, extents: [], points };
};

const ALL = [3, 4, 5];
const layer4: Found = { ...inData(0, [4, 5]), kind: "layer", extents: block(0, 8) };
const ROTS: readonly Rot[] = [
  {
    name: "a layer's data",
    place: (directory) => dataOf(directory, 43),
    ...inData(5, [4, 5]),
  },
  {
    name: "a layer's data that a newer point has overwritten",
    place: (directory) => dataOf(directory, 42),
    ...inData(4, [4]),
  },
  { name: "a layer's header", place: inLayer(43, 20), ...layer4 },
  { name: "a layer's index", place: inIndex(43), ...layer4 },
  { name: "a layer's footer", place: inLayer(43, -30), ...layer4 },
  {
    name: "the base",
    place: base(0, "base.raw", 3 * GRANULARITY + 77),
    ...inBase("vda", 3, ALL),
  },
  {
    name: "a base's block that a newer point has overwritten",
    place: base(1, "base.raw", 0),
    ...inBase("vdb", 0, [3, 4]),
  },
  {
    name: "a base's block of zeroes",
    place: base(0, "base.raw", 2 * GRANULARITY + 1),
    ...inBase("vda", 2, ALL),
  },
  {
    name: "a checksum of the base",
    place: base(0, "base.checksums", 4096 + 4 * 1 + 2),
    ...inBase("vda", 1, ALL),
  },
  { name: "a manifest", place: manifest(4), ...inDocument(4, [4, 5]) },
  { name: "the base's document", place: fileAt("base.json"), ...inDocument(3, ALL) },
  { name: "the VM's document", place: fileAt("vm.json"), ...inDocument(3, ALL) },
];

void t.test("T28: a flipped bit is found and named, and nothing else is", async (t) => {
  const { directory, scene, store } = await keep(t);
  const { vmId } = scene.vm;
  for (const { name, place, disk, points, ...rot } of ROTS) {
    const { path, offset } = await place(directory, scene);
    await flip(path, offset);
    const status = await verified(t, store, vmId);
    const { kind, pointSequence, extents } = rot;
    // A checksum that rotted cannot be told from the block that it is of.
    const file = relative(directory, path).replace(/base\.checksums$/, "base.raw");
    t.same(damageOf(status), [{ kind, file, diskName: disk, pointSequence, extents }], name);
    t.same(status.damagedPoints, points, `${name}: points`);
    t.equal(status.isHeadDamaged, points.includes(5), `${name}: head`);
    await flip(path, offset);
    t.same(damageOf(await verified(t, store, vmId)), [], `${name}, mended`);
  }
});

void t.test(
  "a point alone: what lies above it is not looked at, and is not forgotten",
  async (t) => {
    const { directory, scene, store } = await keep(t);
    const { vmId } = scene.vm;
    const { path, offset } = await dataOf(directory, 52);
    await flip(path, offset);
    const of4 = await verified(t, store, vmId, 4);
    t.equal(of4.last?.result, "good");
    t.equal(of4.last?.pointSequence, 4);
    t.same(of4.damagedPoints, []);
    t.same((await verified(t, store, vmId, 5)).damagedPoints, [5]);
    const again = await verified(t, store, vmId, 4);
    t.equal(again.last?.result, "good");
    t.same(again.damagedPoints, [5], "what is known of 5 stays");
    await using verifications = new Verifications({
      store,
      clock: sleeplessClock(),
      bytesPerSecond: 1,
    });
    await t.rejects(verifications.start(vmId, 17), { code: "NOT_FOUND" });
  },
);

void t.test(
  "what was found survives a restart, and goes when it is overwritten and merged",
  async (t) => {
    const { root, directory, scene, store } = await keep(t);
    const { vmId } = scene.vm;
    const diskId = scene.vm.disks[0]?.diskId ?? "";
    await flip(join(directory, "disks", diskId, "base.raw"), GRANULARITY);
    const { damage, last } = await verified(t, store, vmId);
    await store.close();
    const again = await openNativeStore(t, root);
    const options = { store: again, clock: sleeplessClock(), bytesPerSecond: 1 };
    await using verifications = new Verifications(options);
    const status = await verifications.status(vmId);
    t.same([status.damage, status.last], [damage, last]);
    t.same(status.damagedPoints, [3, 4, 5]);
    const head = (await again.points(vmId)).at(-1)?.pointId ?? null;
    await scene.point(again, head, { 0: { 1: 61 } });
    const repaired = await verifications.status(vmId);
    t.same([repaired.damagedPoints, repaired.isHeadDamaged], [[3, 4, 5], false]);
    t.ok(await keepNewest(again, vmId, 1));
    t.same((await verifications.status(vmId)).damage, [], "newer content lies in the base");
    t.equal((await verified(t, again, vmId)).last?.result, "good");
  },
);

void t.test("a base without its table is unknown, never good", async (t) => {
  const { directory, scene, store } = await keep(t);
  const { vmId } = scene.vm;
  for (const { diskId } of scene.vm.disks) {
    await rm(join(directory, "disks", diskId, "base.checksums"));
    await flip(join(directory, "disks", diskId, "base.raw"), 0);
  }
  const { last } = await verified(t, store, vmId);
  t.same(last?.damage, []);
  t.ok((last?.unknownBytes ?? 0) >= 5 * GRANULARITY, "as much as is there");
  t.equal(last?.verifiedBytes, 5 * GRANULARITY, "the layers alone");
  t.ok(await keepNewest(store, vmId, 1), "and it can be merged into");
  const after = (await verified(t, store, vmId)).last;
  t.same(after?.damage, []);
  t.equal(after?.verifiedBytes, 5 * GRANULARITY, "what was merged since is known");
  t.equal(after?.unknownBytes, 3 * GRANULARITY, "1 and 3 of vda and 4 of vdb are not");
});

void t.test(
  "a table of another base (an older version has merged since) knows nothing",
  async (t) => {
    const { directory, scene, store } = await keep(t);
    const { vmId } = scene.vm;
    const tables = scene.vm.disks.map(({ diskId }) =>
      join(directory, "disks", diskId, "base.checksums"),
    );
    const former = await Promise.all(tables.map((path) => readFile(path)));
    t.ok(await keepNewest(store, vmId, 1));
    for (const [index, path] of tables.entries()) await writeFile(path, former[index] ?? "");
    const { last } = await verified(t, store, vmId);
    t.same(last?.damage, [], "blocks that were merged since do not look rotten");
    t.same([last?.verifiedBytes, last?.unknownBytes], [0, 7 * GRANULARITY]);
  },
);

void t.test("a layer that is not the one of its manifest is found", async (t) => {
  const { directory, scene, store } = await keep(t);
  const { vmId } = scene.vm;
  // Whole by itself, of the same disk, but another point's.
  const ofVda = await dataOf(directory, 51);
  const four = await dataOf(directory, 43);
  await writeFile(ofVda.path, await readFile(four.path));
  const { damage } = await verified(t, store, vmId);
  t.match(damage, [{ kind: "layer", diskName: "vda", pointSequence: 5 }]);
});

void t.test("G5: whatever is merged, each block of the base has its checksum", async (t) => {
  const random = new SeededRandom(7);
  const root = await temporaryDirectory(t);
  const [vda, vdb] = new Scene().vm.disks;
  if (vda === undefined || vdb === undefined) throw new Error("two disks are needed");
  const { vm } = new Scene();
  // It does not end with a block.
  const disks = [vda, { ...vdb, sizeBytes: 7 * GRANULARITY + 512 }];
  const scene = new Scene({ ...vm, disks });
  const store = await openNativeStore(t, root);
  await store.enable(scene.vm, scene.generation);
  const directory = join(root, "vms", scene.vm.vmId);
  let parent: string | null = null;
  for (let round = 0; round < 12; round += 1) {
    for (let n = 0; n < 3; n += 1) {
      const some = () => ({
        [random.below(7)]: random.below(3) * (1 + random.below(80)),
        [random.below(7)]: 1 + random.below(250),
      });
      parent = (await scene.point(store, parent, { 0: some(), 1: some() })).pointId;
    }
    t.ok(await keepNewest(store, scene.vm.vmId, 1 + random.below(4)));
    const good = await verified(t, store, scene.vm.vmId);
    t.same([good.damage, good.last?.unknownBytes], [[], 0], `round ${round}`);
    const diskIndex = random.below(2);
    const rotten = random.below(7);
    const path = join(directory, "disks", disks[diskIndex]?.diskId ?? "", "base.raw");
    await flip(path, rotten * GRANULARITY + random.below(GRANULARITY));
    const { damage } = await verified(t, store, scene.vm.vmId);
    t.same(
      damage.map(({ diskName, extents }) => [diskName, extents]),
      [[disks[diskIndex]?.name, block(rotten)]],
    );
    await flipBack(t, store, scene, path, rotten);
  }
});

void t.test(
  "zeroes of finer blocks than the base's say nothing of the data beside them",
  async (t) => {
    const scene = new Scene();
    const { vmId, disks } = scene.vm;
    const store = await openNativeStore(t, await temporaryDirectory(t));
    await store.enable(scene.vm, scene.generation);
    const fine = { 0: { 0: 5, 1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 7 } };
    const { pointId } = await scene.point(store, null, fine);
    const grown = disks.map((disk) => ({
      ...disk,
      sizeBytes: 2 * disk.sizeBytes,
      granularityBytes: 4 * GRANULARITY,
    }));
    await scene.deliver(store, scene.header({ parentPointId: pointId, disks: grown }), {});
    t.ok(await keepNewest(store, vmId, 1));
    t.same((await verified(t, store, vmId)).damage, []);
  },
);

/** Whatever was flipped: all of the block's bytes are its first byte or one bit off it. */
async function flipBack(
  t: Test,
  store: ReplicaStore,
  scene: Scene,
  path: string,
  rotten: number,
): Promise<void> {
  const content = (await readFile(path)).subarray(rotten * GRANULARITY);
  const common = content[1] === content[2] ? content[1] : content[3];
  const odd = content.subarray(0, GRANULARITY).findIndex((byte) => byte !== common);
  await flip(path, rotten * GRANULARITY + odd);
  t.same((await verified(t, store, scene.vm.vmId)).damage, []);
}
