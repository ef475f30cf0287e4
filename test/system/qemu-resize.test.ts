/** A real QEMU whose disk grows: what its user has to do, step by step (docs/resize.md). */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import t, { type Test } from "tap";
import { TrackedDisk } from "#lib/index.js";
import { memoryDevice } from "#lib/testing.js";
import { missingTool, scratchDirectory } from "../support/program.js";
import { QemuMonitor } from "../support/qemu-monitor.js";
import { until } from "../support/until.js";

const MIB = 1 << 20;
const QEMU = "qemu-system-x86_64";
const directory = await scratchDirectory(t);
const missing = await missingTool(QEMU);

async function sizeSeen(monitor: QemuMonitor): Promise<number> {
  const { return: devices } = await monitor.run("query-block");
  const [first] = devices as { inserted?: { image: { "virtual-size": number } } }[];
  return first?.inserted?.image["virtual-size"] ?? 0;
}

/** A machine that never runs, with the export as its disk d0. */
async function startQemu(t: Test, socketPath: string): Promise<QemuMonitor> {
  const qmpPath = join(directory, "qmp.sock");
  const nbd = `driver=nbd,node-name=d0,server.type=unix,server.path=${socketPath},reconnect-delay=30`;
  const machine = "-accel tcg -M q35 -m 64 -nodefaults -nographic -S".split(" ");
  const device = ["-blockdev", nbd, "-device", "virtio-blk-pci,drive=d0,id=disk0,share-rw=on"];
  const qemu = spawn(QEMU, machine.concat(device, "-qmp", `unix:${qmpPath},server=on,wait=off`));
  const ended = once(qemu, "exit");
  t.teardown(async () => {
    qemu.kill("SIGKILL");
    await ended;
  });
  return QemuMonitor.connect(qmpPath);
}

void t.test(
  "QEMU reconnects, is told by block_resize, and reaches the new space",
  missing === null ? {} : { skip: missing },
  async (t) => {
    await using disk = await TrackedDisk.track(memoryDevice(8 * MIB), {
      path: join(directory, "d"),
    });
    await disk.addTarget("replica", "nothing");
    const socketPath = join(directory, "nbd.sock");
    await disk.serve({ socketPath });
    const monitor = await startQemu(t, socketPath);
    const io = (command: string) =>
      monitor.run("human-monitor-command", { "command-line": `qemu-io d0 "${command}"` });

    t.equal(await sizeSeen(monitor), 8 * MIB);
    await disk.resize(16 * MIB);
    const resize = () => monitor.run("block_resize", { "node-name": "d0", size: 16 * MIB });
    t.match((await resize()).error?.desc, /Cannot grow NBD nodes/, "it has the old size in mind");

    await disk.resize(16 * MIB, { reconnectClients: true });
    // The first request after the end of its connection makes it come back; a guest at work
    // sends some anyway, and so does this one: the first may still be answered by the old one.
    const isResized = async () => {
      await io("read 0 512");
      return isDeepStrictEqual(await resize(), { return: {} });
    };
    await until("QEMU has come back and takes the size", 30_000, isResized);
    t.equal(await sizeSeen(monitor), 16 * MIB);
    await io("write -P 7 12M 4k");
    const content = new Uint8Array(4096);
    await disk.read(12 * MIB, content);
    t.ok(
      content.every((byte) => byte === 7),
      "QEMU wrote where there was nothing before",
    );
    monitor.end();
  },
);
