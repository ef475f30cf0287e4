/** What takes a disk from its filter under a running guest, one test each. */
import { truncate, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import t, { type Test } from "tap";
import { TrackedDisk } from "#lib/index.js";
import type { DiskFilter, RunningVm, VmEvent } from "#lib/model/hypervisor.js";
import { missingTool } from "../support/program.js";
import { until } from "../support/until.js";
import { QEMU, QemuScene, SIZE_BYTES } from "./qemu-scene.js";

const missing = await missingTool(QEMU, "qemu-img");
const skip = missing === null ? {} : { skip: missing };
const never = new AbortController().signal;

interface Filtered {
  readonly scene: QemuScene;
  readonly vm: RunningVm;
  readonly next: () => Promise<VmEvent>;
}

async function filtered(t: Test): Promise<Filtered> {
  const scene = await QemuScene.make(t, "-drive");
  const vm = await scene.hypervisor.connect("web", never);
  t.teardown(() => vm.close());
  await vm.insertFilter("root", scene.filter, never);
  return { scene, vm, next: await watch(vm) };
}

async function watch(vm: RunningVm): Promise<() => Promise<VmEvent>> {
  const events = vm.events(never)[Symbol.asyncIterator]();
  await vm.disks(never);
  return async () => (await events.next()).value as VmEvent;
}

/** Throws what QEMU says against it. */
async function order(scene: QemuScene, command: string, args: object): Promise<void> {
  const { error } = await scene.monitor.run(command, args);
  if (error !== undefined) throw new Error(`${command}: ${error.desc}`);
}

async function jobIs(scene: QemuScene, id: string, status: string | undefined): Promise<void> {
  await until(`job ${id} ${status ?? "gone"}`, 30_000, async () => {
    const jobs = await scene.query<{ id: string; status: string }>("query-jobs");
    return jobs.find((job) => job.id === id)?.status === status;
  });
}

async function pivot(scene: QemuScene, id: string): Promise<void> {
  await jobIs(scene, id, "ready");
  await order(scene, "job-complete", { id });
  await jobIs(scene, id, undefined);
}

async function newNode(scene: QemuScene, name: string): Promise<string> {
  const filename = join(dirname(scene.monitorPath), name);
  await writeFile(filename, "");
  await truncate(filename, SIZE_BYTES);
  const file = { driver: "file", filename };
  await order(scene, "blockdev-add", { driver: "raw", "node-name": name, file });
  return filename;
}

const filterOf = async (vm: RunningVm, name: string) =>
  (await vm.disks(never)).find((disk) => disk.name === name)?.filter ?? null;

void t.test("a block copy to another file", skip, async (t) => {
  const { scene, vm, next } = await filtered(t);
  const [device = ""] = await scene.leftovers();
  await newNode(scene, "copy");
  const copy = { "job-id": "copy", device, target: "copy", sync: "full" };
  await order(scene, "blockdev-mirror", copy);
  await pivot(scene, "copy");
  t.same(await next(), { kind: "bypassed", diskName: "root" });
  t.equal(await filterOf(vm, "root"), null);
});

void t.test("a snapshot, until it is committed", skip, async (t) => {
  const { scene, vm, next } = await filtered(t);
  await scene.bypass();
  t.same(await next(), { kind: "bypassed", diskName: "root" });
  t.equal(await scene.guestWrites(7, 8192, 4096), "");
  await order(scene, "block-commit", { "job-id": "commit", device: "overlay" });
  await pivot(scene, "commit");
  t.match(await filterOf(vm, "root"), { exportName: "root" });
  const content = new Uint8Array(4096);
  await scene.disk.read(8192, content);
  t.ok(
    content.every((byte) => byte === 7),
    "what it held came by the filter",
  );
  t.ok(scene.disk.native.liveBlocks() > 0, "and is marked");
});

/** A removable disk that goes by a filter of its own. */
async function stick(t: Test): Promise<Filtered & { readonly filter: DiskFilter }> {
  const { scene, vm } = await filtered(t);
  const path = await newNode(scene, "stick0");
  await order(scene, "device_add", { driver: "usb-uas", id: "uas" });
  const device = { driver: "scsi-hd", bus: "uas.0", drive: "stick0", id: "stick", removable: true };
  await order(scene, "device_add", device);
  const disk = await TrackedDisk.open({ path, lock: "none" });
  t.teardown(() => disk.close());
  const socketPath = join(dirname(scene.monitorPath), "nbd-stick");
  const filter = { socketPath, exportName: "stick", imagePath: path };
  await disk.serve(filter);
  await vm.insertFilter("stick", filter, never);
  return { scene, vm, filter, next: await watch(vm) };
}

void t.test("another medium", skip, async (t) => {
  const { scene, vm, next } = await stick(t);
  await newNode(scene, "other");
  await order(scene, "blockdev-open-tray", { id: "stick" });
  await order(scene, "blockdev-remove-medium", { id: "stick" });
  await order(scene, "blockdev-insert-medium", { id: "stick", "node-name": "other" });
  await order(scene, "blockdev-close-tray", { id: "stick" });
  t.match(await next(), { diskName: "stick" });
  t.equal(await filterOf(vm, "stick"), null);
});

void t.test("a disk that is unplugged", skip, async (t) => {
  const { scene, vm, next } = await stick(t);
  await order(scene, "device_del", { id: "stick" });
  t.same(await next(), { kind: "disk-detached", diskName: "stick" });
  t.equal(await filterOf(vm, "stick"), null);
});
