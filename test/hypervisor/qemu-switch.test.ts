/** The filter on its way in and out: what is left behind, by whatever ends it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import t, { type Test } from "tap";
import { missingTool } from "../support/program.js";
import { until } from "../support/until.js";
import { QEMU, QemuScene, SIZE_BYTES } from "./qemu-scene.js";

const missing = await missingTool(QEMU, "qemu-img");
const skip = missing === null ? {} : { skip: missing };
const never = new AbortController().signal;
const LIBRARY = import.meta.resolve("#lib/index.js");

/** A process of its own that inserts or removes the filter. */
const SWITCHING = `
const [library, order, socketPath, filter] = process.argv.slice(1);
const { QemuHypervisor } = await import(library);
const vm = await new QemuHypervisor({ monitors: { web: socketPath } })
  .connect("web", new AbortController().signal);
await vm[order]("root", JSON.parse(filter), new AbortController().signal);
await vm.close();
`;

/** Killed at the failpoint. */
async function killedAt(t: Test, scene: QemuScene, order: string, failpoint: string) {
  const args = ["-e", SWITCHING, LIBRARY, order, scene.monitorPath, JSON.stringify(scene.filter)];
  const env = { ...process.env, TIDEMARK_FAILPOINT: `${failpoint}:1` };
  const child = spawn(process.execPath, ["--input-type=module", ...args], {
    env,
    stdio: "inherit",
  });
  const [, signal] = (await once(child, "exit")) as [number | null, string | null];
  t.equal(signal, "SIGKILL", `${order} comes to ${failpoint}`);
}

async function contentIs(t: Test, scene: QemuScene, pattern: number, offsetBytes: number) {
  const content = new Uint8Array(4096);
  await scene.disk.read(offsetBytes, content);
  t.ok(
    content.every((byte) => byte === pattern),
    `${pattern} is in the image`,
  );
}

const STEPS = ["filter.added", "filter.mirrored", "filter.ordered", "filter.switched"];

void t.test("killed at any step, the next process ends it", skip, async (t) => {
  const scene = await QemuScene.make(t, "-blockdev");
  let pattern = 0;
  const write = async () => {
    pattern += 1;
    t.equal(await scene.guestWrites(pattern, pattern * 4096, 4096), "", "no error");
    await contentIs(t, scene, pattern, pattern * 4096);
  };
  for (const step of STEPS) {
    await killedAt(t, scene, "insertFilter", step);
    await write();
    await using vm = await scene.hypervisor.connect("web", never);
    await vm.insertFilter("root", scene.filter, never);
    t.match(await scene.leftovers(), [/^tidemark-filter-/], `inserted after ${step}`);
    t.equal((await scene.leftovers()).length, 1);
    await scene.disk.lockImage("exclusive");
    await write();
    await scene.disk.lockImage("none");
    await vm.close();
    await killedAt(t, scene, "removeFilter", step);
    await write();
    await using later = await scene.hypervisor.connect("web", never);
    await later.removeFilter("root", scene.filter, never);
    t.match(await scene.leftovers(), [/^tidemark-image-/], `removed after ${step}`);
    t.equal((await scene.leftovers()).length, 1);
    await write();
  }
});

void t.test("what is on an idle disk stays as it is, in and out", skip, async (t) => {
  const scene = await QemuScene.make(t, "-drive");
  const content = randomBytes(SIZE_BYTES);
  await writeFile(scene.disk.path, content, { flag: "r+" });
  await using vm = await scene.hypervisor.connect("web", never);
  for (const order of ["insertFilter", "removeFilter"] as const) {
    await vm[order]("root", scene.filter, never);
    t.ok(content.equals(await readFile(scene.disk.path)), order);
    t.equal(scene.disk.native.liveBlocks(), 0, `${order} writes nothing`);
  }
});

void t.test("killed on its way in, it can be taken back", skip, async (t) => {
  const scene = await QemuScene.make(t, "-drive");
  const before = await scene.leftovers();
  for (const step of STEPS.slice(0, 2)) {
    await killedAt(t, scene, "insertFilter", step);
    await using vm = await scene.hypervisor.connect("web", never);
    await vm.removeFilter("root", scene.filter, never);
    t.same(await scene.leftovers(), before, step);
  }
});

void t.test("aborted at any moment, all is before or after", skip, async (t) => {
  const scene = await QemuScene.make(t, "-blockdev");
  const before = await scene.leftovers();
  await using vm = await scene.hypervisor.connect("web", never);
  let abortedCount = 0;
  for (let delayMs = 0; delayMs < 24; delayMs += 1) {
    const stop = new AbortController();
    setTimeout(() => stop.abort(new Error("enough")), delayMs);
    const inserted = await vm.insertFilter("root", scene.filter, stop.signal).then(
      () => true,
      (thrown: Error) => (t.equal(thrown.message, "enough"), false),
    );
    if (inserted) break;
    abortedCount += 1;
    t.same(await scene.leftovers(), before, `aborted after ${delayMs} ms`);
  }
  t.ok(abortedCount > 0);
  await vm.insertFilter("root", scene.filter, never);
  t.match(await scene.leftovers(), [/^tidemark-filter-/]);
});

void t.test("a filter that dies on the way in leaves the guest with its image", skip, async (t) => {
  const scene = await QemuScene.make(t, "-drive");
  await killedAt(t, scene, "insertFilter", "filter.mirrored");
  await scene.stopServing();
  await using vm = await scene.hypervisor.connect("web", never);
  await t.rejects(vm.insertFilter("root", scene.filter, never), { code: "UNREACHABLE" });
  t.same(await scene.query("query-jobs"), []);
  t.equal(await scene.guestWrites(10, 4096, 4096), "");
  await scene.serve();
  await vm.insertFilter("root", scene.filter, never);
  t.match(await scene.leftovers(), [/^tidemark-filter-/]);
});

void t.test("an image that another process has locked is left alone", skip, async (t) => {
  const scene = await QemuScene.make(t, "-blockdev");
  const before = await scene.leftovers();
  await using vm = await scene.hypervisor.connect("web", never);
  await scene.disk.lockImage("shared");
  await t.rejects(vm.insertFilter("root", scene.filter, never), {
    code: "CONFLICT",
    message: /beside QEMU another process has locked/,
  });
  await scene.disk.lockImage("none");
  await vm.insertFilter("root", scene.filter, never);
  await scene.disk.lockImage("exclusive");
  await t.rejects(vm.removeFilter("root", scene.filter, never), { code: "CONFLICT" });
  t.match(await scene.leftovers(), [/^tidemark-filter-/]);
  await scene.disk.lockImage("none");
  await vm.removeFilter("root", scene.filter, never);
  t.notSame(await scene.leftovers(), before, "a node of ours has the place of the user's");
});

void t.test("a disk of another size is refused", skip, async (t) => {
  const scene = await QemuScene.make(t, "-drive");
  await using vm = await scene.hypervisor.connect("web", never);
  await scene.disk.resize(16 << 20);
  const refused = vm.insertFilter("root", scene.filter, never);
  await t.rejects(refused, {
    code: "CONFLICT",
    message: /has 8388608 bytes, and there are 16777216/,
  });
  t.same(await scene.leftovers(), []);
});

void t.test("an image that QEMU uses otherwise too is not let go", skip, async (t) => {
  const scene = await QemuScene.make(t, "-blockdev");
  const server = { addr: { type: "unix", data: { path: `${scene.monitorPath}.nbd` } } };
  await scene.monitor.run("nbd-server-start", server);
  const other = { type: "nbd", id: "other", "node-name": "file0" };
  await scene.monitor.run("block-export-add", other);
  await using vm = await scene.hypervisor.connect("web", never);
  const inserting = vm.insertFilter("root", scene.filter, never);
  await t.rejects(inserting, { code: "CONFLICT", message: /its node file0 is used by something/ });
  await scene.monitor.run("block-export-del", { id: "other" });
  await until("the export's end", 30_000, async () => {
    return (await scene.query("query-block-exports")).length === 0;
  });
  await vm.insertFilter("root", scene.filter, never);
  t.match(await scene.leftovers(), [/^tidemark-filter-/]);
});

void t.test("a disk that comes is told", skip, async (t) => {
  const scene = await QemuScene.make(t, "-drive");
  await using vm = await scene.hypervisor.connect("web", never);
  const events = vm.events(never)[Symbol.asyncIterator]();
  await vm.disks(never);
  await scene.monitor.run("blockdev-add", { driver: "null-co", "node-name": "extra" });
  const device = { driver: "usb-storage", drive: "extra", id: "extra" };
  t.same(await scene.monitor.run("device_add", device), { return: {} });
  t.same((await events.next()).value, { kind: "disk-attached", diskName: "extra" });
});
