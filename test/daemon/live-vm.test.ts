/** A VM that may run, attended: in memory what runs it, real tracked disks. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { LiveVm } from "#lib/daemon/live/live-vm.js";
import type { ServedVm } from "#lib/daemon/served-vm.js";
import { TrackedDisk } from "#lib/index.js";
import { TidemarkError } from "#lib/model/errors.js";
import type { VmDisk } from "#lib/model/hypervisor.js";
import { MemoryHypervisor, MemoryMachine } from "#lib/model/memory-hypervisor.js";
import { scratchDirectory } from "../support/program.js";
import { until } from "../support/until.js";

const SIZE_BYTES = 1 << 20;
const SOCKET = "/run/web.sock";
const TARGET = "replica";

interface Scene {
  readonly machine: MemoryMachine;
  readonly disk: TrackedDisk;
  readonly live: LiveVm;
  readonly notices: string[];
  /** What the VM has before anybody moves it. */
  readonly image: VmDisk;
  connectFails: TidemarkError | null;
}

async function sceneOf(t: Test, clientCount = 0): Promise<Scene> {
  const path = join(await scratchDirectory(t), "image");
  await writeFile(path, Buffer.alloc(SIZE_BYTES, 1));
  const disk = await TrackedDisk.open({ path, lock: "none" });
  t.teardown(() => disk.close());
  await disk.addTarget(TARGET, "nothing");
  const machine = new MemoryMachine();
  const image = {
    name: "drive0",
    imagePath: path,
    format: "raw",
    sizeBytes: SIZE_BYTES,
    isReadOnly: false,
    isDirect: false,
    filter: null,
  };
  machine.disks.set("drive0", image);
  machine.served.add(SOCKET);
  const definition = { name: "web", disks: [{ name: "vda", path }] };
  const server = { address: `unix:${SOCKET}`, clientCount: () => clientCount };
  const served = { definition, disks: [disk], server } as unknown as ServedVm;
  const hypervisor = new MemoryHypervisor(new Map([["web", machine]]));
  const notices: string[] = [];
  const live = new LiveVm({
    name: "web",
    place: { kind: "qemu", monitorPath: "/run/web.qmp" },
    connect: async (_place, vmName, signal) => {
      if (scene.connectFails !== null) throw scene.connectFails;
      return hypervisor.connect(vmName, signal);
    },
    served: () => Promise.resolve(served),
    isKnown: () => true,
    onNotice: (message) => void notices.push(message),
  });
  t.teardown(() => live.close());
  const scene: Scene = { machine, disk, live, notices, image, connectFails: null };
  return scene;
}

const suspectBytes = (disk: TrackedDisk) => disk.targets()[0]?.suspectBytes;

void t.test("a VM that runs is moved, suspected and locked", async (t) => {
  const { machine, disk, live } = await sceneOf(t);
  t.throws(() => live.requireTracked(), { code: "BYPASSED" }, "nothing is cut before");
  await live.settle();
  t.equal(live.state, "tracked");
  t.match(machine.disk("drive0").filter, { socketPath: SOCKET, exportName: "vda" });
  t.equal(suspectBytes(disk), SIZE_BYTES);
  t.equal(disk.image.lock, "exclusive");
  await live.requireTracked().isTracked();
});

void t.test("of one that is off the images are locked, and suspected", async (t) => {
  const { machine, disk, live } = await sceneOf(t);
  machine.stop();
  await live.settle();
  t.equal(live.state, "off");
  t.equal(disk.image.lock, "exclusive");
  t.equal(suspectBytes(disk), SIZE_BYTES);
  await live.requireTracked().isTracked();
});

void t.test(
  "a cut during which the disk was bypassed is not kept, even if it is back",
  async (t) => {
    const { machine, live, image } = await sceneOf(t);
    await live.settle();
    const cut = live.requireTracked();
    machine.bypass("drive0", "/images/overlay");
    await t.rejects(live.settle(), { code: "BYPASSED" });
    machine.disks.set("drive0", image);
    await live.settle();
    t.equal(live.state, "tracked");
    await t.rejects(cut.isTracked(), { code: "BYPASSED" });
    await live.requireTracked().isTracked();
  },
);

void t.test("a cut that nobody has noticed the bypass of is not kept", async (t) => {
  const { machine, live, notices } = await sceneOf(t);
  await live.settle();
  const cut = live.requireTracked();
  machine.bypass("drive0", "/images/overlay");
  await t.rejects(cut.isTracked(), { code: "BYPASSED" });
  t.equal(live.state, "bypassed");
  t.match(notices, [/none of the running VM's disks is/]);
});

void t.test("a monitor that another program uses leaves open what the VM does", async (t) => {
  const scene = await sceneOf(t);
  scene.connectFails = new TidemarkError("IN_USE", "Cannot control the VM: in use.");
  await t.rejects(scene.live.settle(), { code: "IN_USE" });
  t.throws(() => scene.live.requireTracked(), { code: "IN_USE" });
  t.equal(suspectBytes(scene.disk), 0);
});

void t.test("left, the VM has its image again; not while nobody can tell", async (t) => {
  const { machine, disk, live, image } = await sceneOf(t);
  await live.settle();
  await live.leave();
  t.same(machine.disk("drive0"), image);
  t.equal(disk.image.lock, "none");
  const other = await sceneOf(t, 1);
  await other.live.settle();
  other.machine.stop();
  await t.rejects(other.live.leave(), { code: "IN_USE" });
});

void t.test("attended, it follows the VM", async (t) => {
  const { machine, live, image } = await sceneOf(t);
  live.start();
  const become = async (state: string) => {
    await until(state, 30_000, () => live.state === state);
    t.equal(live.state, state);
  };
  await become("tracked");
  machine.bypass("drive0", "/images/overlay");
  await become("bypassed");
  machine.disks.set("drive0", image);
  await become("tracked");
  machine.stop();
  await become("off");
});
