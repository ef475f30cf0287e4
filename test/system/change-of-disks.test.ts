/**
 * T34: a VM's disks come and go under load, with kills in between, and each recovery point
 * is what the guest's journal says of the disks that it was cut of.
 */
import { rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { PointExportBody, RecoveryPointBody, VmStatus } from "#lib/management/schemas.js";
import { Cli } from "../support/cli.js";
import { readDisk } from "../support/journal-oracle.js";
import { DISK_BYTES, ReplicatedVm, VM, WRITTEN_BYTES_AT_MOST } from "../support/replicated-vm.js";
import { NbdClient } from "../support/nbd-client.js";
import { BLOCK_BYTES, stampRun } from "../support/stamped-blocks.js";
import { until } from "../support/until.js";

const SEED = 31;
/** The number of the disk that comes and goes, in the journal. */
const ADDED = 2;

t.setTimeout(600_000);

const vm = await ReplicatedVm.start(SEED);
t.teardown(() => vm.close());
const onPrimary = new Cli(vm.primary.directory);
const onReplica = new Cli(vm.replica.directory);
const path = join(vm.directory, "added.raw");
await writeFile(path, stampRun(ADDED, 0, DISK_BYTES / BLOCK_BYTES, 0));
const judged = new Set<string>();

async function opened<T>(
  point: RecoveryPointBody,
  look: (opened: PointExportBody) => Promise<T> | T,
): Promise<T> {
  const { api } = vm.replica;
  const there = await api.call("testFailover", { pointId: point.pointId }, { vm: VM });
  try {
    return await look(there);
  } finally {
    await api.call("exportClose", {}, { export: there.exportId });
  }
}

/** Judges what was not judged before, and says how many replicated disks each point has. */
async function diskCounts(t: Test): Promise<readonly number[]> {
  vm.load.pause();
  const counts: number[] = [];
  for (const point of await vm.points()) {
    if (!judged.has(point.pointId)) t.same((await vm.judge(point)).faults.slice(0, 5), []);
    judged.add(point.pointId);
    const { disks } = await opened(point, (there) => there);
    counts.push(disks.filter(({ isPlaceholder }) => !isPlaceholder).length);
  }
  vm.load.resume();
  return counts;
}

async function newestPoint(): Promise<RecoveryPointBody> {
  const points = await vm.points();
  const newest = points.at(-1);
  if (newest === undefined) throw new Error("there is no point");
  return newest;
}

async function add(t: Test): Promise<void> {
  const added = await onPrimary.json<VmStatus>(
    t,
    "vm",
    "disk",
    "add",
    VM,
    "--disk",
    `data=${path}`,
  );
  const disk = added.disks.find(({ name }) => name === "data");
  vm.load.writeTo(ADDED, disk?.uri ?? "");
}

void t.test("a disk is added: one point has it, in full, and the others go on", async (t) => {
  const before = vm.reports.length;
  await add(t);
  const first = await vm.nextPoint();
  t.equal(first.kind, "cycle");
  await vm.nextPoint();
  const large = vm.reports.slice(before).filter(({ changedBytes }) => changedBytes > DISK_BYTES);
  t.equal(large.length, 1, "one cycle carried it");
  t.ok((large[0]?.changedBytes ?? 0) <= DISK_BYTES + WRITTEN_BYTES_AT_MOST * 2, "and nothing else");
  const counts = await diskCounts(t);
  t.same([...new Set(counts)], [2, 3], "older points have the disks that they had");
  const text = await onReplica.text(t, "vm", "test-failover", VM, "--point", "1");
  t.match(text, /Disk data is not in this point: it was added later\./);
  const exportId = /vm close (\S+)/.exec(text)?.[1] ?? "";
  await onReplica.text(t, "vm", "close", exportId);
});

void t.test("both hosts are killed, and the new disk is as the others", async (t) => {
  await vm.primary.kill();
  await vm.startPrimary();
  await vm.nextPoint();
  await vm.replica.kill();
  await vm.replica.start();
  await vm.nextPoint();
  t.same((await diskCounts(t)).at(-1), 3);
});

void t.test("what is a disk of a VM already is refused, by that VM's name", async (t) => {
  const other = join(vm.directory, "link.raw");
  await symlink(join(vm.directory, "disk-0.raw"), other);
  const refusal = await onPrimary.fails(t, "CONFLICT", "vm", "disk", "add", VM, "--disk", other);
  t.match(refusal, /is disk vda of VM guest/);
  const named = `vda=${join(vm.directory, "another.raw")}`;
  await writeFile(join(vm.directory, "another.raw"), Buffer.alloc(1 << 20));
  await onPrimary.fails(t, "INVALID_ARGUMENT", "vm", "disk", "add", VM, "--disk", named);
  await onPrimary.fails(t, "NOT_FOUND", "vm", "disk", "remove", VM, "vdx");
  await vm.nextPoint();
});

void t.test("a disk is removed when nobody has it open, and older points keep it", async (t) => {
  const refusal = await onPrimary.fails(t, "IN_USE", "vm", "disk", "remove", VM, "data");
  t.match(refusal, /1 NBD connection/);
  await vm.load.leaveAlone(ADDED);
  await onPrimary.text(t, "vm", "disk", "remove", VM, "data");
  await vm.nextPoint();
  await vm.nextPoint();
  const counts = await diskCounts(t);
  t.same([...new Set(counts)], [2, 3]);
  t.equal(counts.at(-1), 2, "the newest is without it");
  const { disks } = await onPrimary.json<VmStatus>(t, "vm", "status", VM);
  t.same(
    disks.map(({ name }) => name),
    ["vda", "vdb"],
  );
});

void t.test("the disk comes back, with a kill right after it is noted", async (t) => {
  await add(t);
  await vm.primary.kill();
  await vm.startPrimary();
  await vm.nextPoint();
  await vm.nextPoint();
  t.equal((await diskCounts(t)).at(-1), 3);
});

void t.test("an excluded disk is served, and empty at a failover", async (t) => {
  await vm.load.leaveAlone(ADDED);
  await onPrimary.text(t, "vm", "disk", "exclude", VM, "data");
  await vm.nextPoint();
  await vm.nextPoint();
  t.equal((await diskCounts(t)).at(-1), 2);
  const text = await onPrimary.text(t, "vm", "status", VM);
  t.match(text, /data \(not replicated\)/);
  t.match(await onReplica.text(t, "vm", "status", VM), /data \(not replicated\)/);
  await opened(await newestPoint(), async ({ disks }) => {
    const placeholder = disks.find(({ isPlaceholder }) => isPlaceholder);
    t.match(placeholder, { name: "data", sizeBytes: DISK_BYTES });
    const content = await readDisk(placeholder?.uri ?? "");
    t.ok(content.equals(Buffer.alloc(DISK_BYTES)), "zeroes of the disk's size");
  });
  const { disks } = await onPrimary.json<VmStatus>(t, "vm", "status", VM);
  const uri = disks.find(({ isExcluded }) => isExcluded)?.uri ?? "";
  t.ok(
    (await readDisk(uri)).subarray(0, 8).some((byte) => byte !== 0),
    "the guest has its disk",
  );
});

void t.test("included again, it is what the guest's journal says", async (t) => {
  const included = await onPrimary.json<VmStatus>(t, "vm", "disk", "include", VM, "data");
  const uri = included.disks.find(({ name }) => name === "data")?.uri ?? "";
  await vm.nextPoint();
  vm.load.writeTo(ADDED, uri);
  await vm.nextPoint();
  await vm.nextPoint();
  t.equal((await diskCounts(t)).at(-1), 3);
});

void t.test("a disk whose image is gone is removed, and the others go on", async (t) => {
  await vm.load.leaveAlone(ADDED);
  await vm.primary.stop();
  await rm(path);
  await vm.startPrimary();
  await vm.waitFor("the error", async () => {
    const { relationship } = await vm.primary.api.call("vmStatus", {}, { vm: VM });
    return relationship?.state === "error";
  });
  await onPrimary.text(t, "vm", "disk", "remove", VM, "data");
  await vm.nextPoint();
  await vm.nextPoint();
  t.equal((await diskCounts(t)).at(-1), 2);
});

void t.test("a VM is enabled without one of its disks, and loses one by force", async (t) => {
  const disks: string[] = [];
  for (const name of ["root", "extra", "swap"]) {
    const file = join(vm.directory, `${name}.raw`);
    await writeFile(file, Buffer.alloc(1 << 20, name));
    disks.push(`${name}=${file}`);
  }
  const enable = ["vm", "enable", "other", "--replica", vm.replica.peerUrl, "--every", "1s"];
  await onPrimary.fails(t, "INVALID_ARGUMENT", ...enable, "--disk", ...disks, "--exclude", "vda");
  const enabled = await onPrimary.json<VmStatus>(
    t,
    ...enable,
    "--disk",
    ...disks,
    "--exclude",
    "swap",
  );
  const ofReplica = () => vm.replica.api.call("pointList", {}, { vm: "other" }).catch(() => []);
  await until("the first point", 60_000, async () => (await ofReplica()).length > 0);
  const text = await onReplica.text(t, "vm", "test-failover", "other");
  t.match(text, /Disk swap is empty: it is not replicated\./);
  const client = await NbdClient.connect(enabled.disks[1]?.uri ?? "");
  t.equal((await client.read(0, 5)).toString(), "extra");
  await onPrimary.fails(t, "IN_USE", "vm", "disk", "remove", "other", "extra");
  await onPrimary.text(t, "vm", "disk", "remove", "other", "extra", "--force");
  await t.rejects(client.read(0, 5), "it is cut off");
  await onPrimary.fails(t, "INVALID_ARGUMENT", "vm", "disk", "remove", "other", "root");
  await onPrimary.fails(t, "INVALID_ARGUMENT", "vm", "disk", "exclude", "other", "root");
});
