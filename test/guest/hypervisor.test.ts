/** The filter put into a running Linux that writes all the while, and taken out (docs/hypervisors.md). */
import { createHash, randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { Domain } from "#lib/hypervisor/libvirt/domain.js";
import { domainVm } from "#lib/hypervisor/libvirt/domain-vm.js";
import { DomainMonitor } from "#lib/hypervisor/libvirt/domain-monitor.js";
import { QmpConnection } from "#lib/hypervisor/qemu/qmp-connection.js";
import { type DiskFilter, QemuHypervisor, type RunningVm, TrackedDisk } from "#lib/index.js";
import { run, scratchDirectory } from "../support/program.js";
import { QemuMonitor } from "../support/qemu-monitor.js";
import { Guest } from "./lab/guest.js";
import { guestIsMissing } from "./lab/missing.js";
import { TIDEMARK_SHELL } from "./lab/tidemark-shell.js";
import { WRITERS } from "./lab/writers.js";

const skip = await guestIsMissing("mkfs.ext4", "e2fsck", "debugfs");
const directory = await scratchDirectory(t);
const never = new AbortController().signal;
const BLOCK = 4096;
const SIZE_BYTES = 32 << 20;
const TARGET = "replica";
t.setTimeout(600_000);

const JOB = `${TIDEMARK_SHELL}${WRITERS}
: > /tmp/attach.log
mkfs.ext4 -q -b ${BLOCK} -E nodiscard /dev/vdb && mount /dev/vdb /mnt || fail "mount"
start_writers
echo "the load runs"
for step in 1 2 3; do
  read order
  has_written 3
  echo "written after $order"
done
stop_writers
umount /mnt || fail "umount"
no_errors
for file in /tmp/sums/*; do echo "sum $(basename $file) $(cat $file)"; done
`;

/** The blocks in which two images differ, one by one. */
function differing(before: Buffer, after: Buffer): number[] {
  const found: number[] = [];
  for (let block = 0; block < SIZE_BYTES / BLOCK; block++) {
    const [from, to] = [block * BLOCK, (block + 1) * BLOCK];
    if (!after.subarray(from, to).equals(before.subarray(from, to))) found.push(block);
  }
  return found;
}

async function changedBlocks(disk: TrackedDisk): Promise<Set<number>> {
  await using checkpoint = await disk.checkpoint(TARGET, { drainLimitMs: 10_000 });
  const blocks = new Set<number>();
  for (const { offsetBytes, lengthBytes } of checkpoint.disks[0]?.changedExtents() ?? []) {
    const end = (offsetBytes + lengthBytes) / BLOCK;
    for (let block = offsetBytes / BLOCK; block < end; block++) blocks.add(block);
  }
  return blocks;
}

async function filesAreWhole(t: Test, imagePath: string, console: string): Promise<void> {
  const { exitCode, stdout } = await run("e2fsck", ["-fn", imagePath]);
  t.equal(exitCode, 0, stdout);
  const sums = [...console.matchAll(/^sum (\S+) ([0-9a-f]{64})$/gm)];
  t.ok(sums.length >= 3 * 9, `${sums.length} files`);
  const out = join(directory, "file");
  for (const [, name = "", sum] of sums) {
    await run("debugfs", ["-R", `dump /${name} ${out}`, imagePath]);
    const hash = createHash("sha256");
    t.equal(hash.update(await readFile(out)).digest("hex"), sum, name);
  }
}

interface Way {
  readonly blockdevs: (imagePath: string) => readonly string[];
  readonly connect: (qmpPath: string) => Promise<RunningVm>;
}

/** What libvirt says of its domain. */
const DOMAIN = {
  hasDisk: async (_: string, predicate: string) => !predicate.startsWith("driver/"),
  stats: async () => ({ isRunning: true, targets: new Map([["1", "data"]]) }),
} as unknown as Domain;

const WAYS: Readonly<Record<string, Way>> = {
  "QEMU's monitor": {
    blockdevs: (imagePath) => [
      "-drive",
      `if=none,id=d0,format=raw,cache=none,file=${imagePath}`,
      "-device",
      "virtio-blk-pci,drive=d0,id=data",
    ],
    connect: (qmpPath) => new QemuHypervisor({ monitors: { web: qmpPath } }).connect("web", never),
  },
  // As libvirt 9.0 starts QEMU, and what is ordered of its domains; libvirt itself has no part in it.
  "libvirt's nodes": {
    blockdevs: (imagePath) => [
      "-blockdev",
      `driver=file,filename=${imagePath},node-name=libvirt-1-storage,cache.direct=on,auto-read-only=on,discard=unmap`,
      "-blockdev",
      "driver=raw,node-name=libvirt-1-format,file=libvirt-1-storage,cache.direct=on,read-only=off",
      "-device",
      "virtio-blk-pci,drive=libvirt-1-format,id=virtio-disk0",
    ],
    connect: async (qmpPath) =>
      domainVm(new DomainMonitor(await QmpConnection.connect(qmpPath, never), DOMAIN)),
  },
};

async function startGuest(
  t: Test,
  { blockdevs }: Way,
  imagePath: string,
  qmpPath: string,
): Promise<Guest> {
  const guest = await Guest.start({
    job: JOB,
    programs: ["mkfs.ext4"],
    limitMs: 500_000,
    qemu: [...blockdevs(imagePath)].concat(
      ["-qmp", `unix:${qmpPath},server=on,wait=off`],
      ["-qmp", `unix:${qmpPath}2,server=on,wait=off`],
    ),
  });
  t.teardown(() => guest[Symbol.asyncDispose]());
  return guest;
}

/** Once nobody serves it, once it is aborted. */
async function insertInVain(t: Test, vm: RunningVm, disk: TrackedDisk, filter: DiskFilter) {
  const server = await disk.serve(filter);
  await server.close();
  await t.rejects(vm.insertFilter("data", filter, never), { code: "UNREACHABLE" });
  await disk.serve(filter);
  const stop = new AbortController();
  setTimeout(() => stop.abort(new Error("enough")), 20);
  await vm.insertFilter("data", filter, stop.signal).catch((thrown: Error) => {
    t.equal(thrown.message, "enough");
  });
}

async function changesAreMarked(t: Test, disk: TrackedDisk, before: Buffer): Promise<void> {
  const after = await readFile(disk.path);
  const changed = await changedBlocks(disk);
  const different = differing(before, after);
  t.ok(different.length > 100, `${different.length} blocks were written`);
  const unmarked = different.filter((block) => !changed.has(block));
  t.same(unmarked, [], "what differs is marked");
  t.ok(changed.size < SIZE_BYTES / BLOCK, "and not simply everything");
}

async function inAndOut(t: Test, way: Way): Promise<void> {
  const directory = await scratchDirectory(t);
  const [imagePath, qmpPath] = [join(directory, "image"), join(directory, "qmp")];
  const filter = { socketPath: join(directory, "nbd"), exportName: "data", imagePath };
  await writeFile(imagePath, randomBytes(SIZE_BYTES));
  const guest = await startGuest(t, way, imagePath, qmpPath);
  const monitor = await QemuMonitor.connect(`${qmpPath}2`);
  t.teardown(() => monitor.end());
  await guest.until(/^the load runs$/m);
  await using vm = await way.connect(qmpPath);
  const goOn = async (order: string) => {
    guest.say(order);
    await guest.until(new RegExp(`^written after ${order}$`, "m"));
  };

  const disk = await TrackedDisk.open({ path: imagePath, lock: "none", direct: true });
  t.teardown(() => disk.close());
  await insertInVain(t, vm, disk, filter);
  await vm.insertFilter("data", filter, never);
  await disk.lockImage("exclusive");
  await disk.addTarget(TARGET, "nothing");
  // What the guest writes while this is read is marked, in it or not.
  const before = await readFile(imagePath);
  await goOn("insertion");
  await vm.insertFilter("data", filter, never);
  await goOn("repetition");
  await monitor.run("stop");
  await changesAreMarked(t, disk, before);
  await monitor.run("cont");

  await disk.lockImage("none");
  await vm.removeFilter("data", filter, never);
  const data = (await vm.disks(never)).find(({ name }) => name === "data");
  t.match(data, { imagePath, filter: null });
  await goOn("removal");
  const { status, output: console } = await guest.ended;
  t.equal(status, 0, console);
  await filesAreWhole(t, imagePath, console);
}

for (const [name, way] of Object.entries(WAYS)) {
  const title = `by ${name}: a filter is inserted under load, marks all, and is removed`;
  void t.test(title, { skip }, (t) => inAndOut(t, way));
}
