/** Disks that grow under a Linux that uses them all the while (docs/resize.md). */
import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { TrackedDisk } from "#lib/index.js";
import { eventually } from "../support/loopback-host.js";
import { run, scratchDirectory } from "../support/program.js";
import { QemuMonitor } from "../support/qemu-monitor.js";
import { Guest, runGuest } from "./lab/guest.js";
import { guestIsMissing } from "./lab/missing.js";
import { TIDEMARK_SHELL } from "./lab/tidemark-shell.js";
import { WRITERS } from "./lab/writers.js";

const skip = await guestIsMissing("mkfs.ext4", "resize2fs", "e2fsck", "debugfs");
const hasFuse = existsSync(new URL("../../build/Release/tidemark-fuse", import.meta.url));
const directory = await scratchDirectory(t);
const MIB = 1 << 20;
const BLOCK = 4096;
const TARGET = "replica";
t.setTimeout(600_000);

const GROWING_JOB = `${TIDEMARK_SHELL}${WRITERS}
: > /tmp/attach.log
mkfs.ext4 -q -b ${BLOCK} -E nodiscard /dev/vdb && mount /dev/vdb /mnt || fail "mount"
start_writers
before=$(cat /sys/block/vdb/size)
echo "the load runs"
while [ "$(cat /sys/block/vdb/size)" = $before ]; do usleep 20000; done
echo "the guest sees $(cat /sys/block/vdb/size) sectors"
has_written 3
resize2fs /dev/vdb || fail "resize2fs"
dd if=/dev/urandom of=/tmp/big bs=1M count=32 2> /dev/null
put /tmp/big big
stop_writers
umount /mnt || fail "umount"
no_errors
for file in /tmp/sums/*; do echo "sum $(basename $file) $(cat $file)"; done
`;

interface Scene {
  readonly disk: TrackedDisk;
  readonly imagePath: string;
  readonly before: Buffer;
  readonly guest: Guest;
  readonly monitor: QemuMonitor;
}

/** A guest whose /dev/vdb is a tracked disk full of noise, of which the target has everything. */
async function startScene(t: Test, sizeBytes: number): Promise<Scene> {
  const imagePath = join(directory, "image");
  const before = randomBytes(sizeBytes);
  await writeFile(imagePath, before);
  const disk = await TrackedDisk.open({ path: imagePath });
  t.teardown(() => disk.close());
  await disk.addTarget(TARGET, "nothing");
  const socketPath = join(directory, "nbd.sock");
  await disk.serve({ socketPath });
  const nbd = `driver=nbd,node-name=d0,server.type=unix,server.path=${socketPath},reconnect-delay=120`;
  const qmpPath = join(directory, "qmp.sock");
  const guest = await Guest.start({
    job: GROWING_JOB,
    programs: ["mkfs.ext4", "resize2fs"],
    limitMs: 500_000,
    qemu: ["-blockdev", nbd, "-device", "virtio-blk-pci,drive=d0,id=disk0"].concat(
      "-qmp",
      `unix:${qmpPath},server=on,wait=off`,
    ),
  });
  t.teardown(() => guest[Symbol.asyncDispose]());
  return { disk, imagePath, before, guest, monitor: await QemuMonitor.connect(qmpPath) };
}

/** What an administrator does, step by step. */
async function grow({ disk, monitor }: Scene, sizeBytes: number): Promise<void> {
  await disk.resize(sizeBytes, { reconnectClients: true });
  // Its guest's next request makes QEMU come back and learn the size.
  await eventually("block_resize", async () => {
    const { error } = await monitor.run("block_resize", { "node-name": "d0", size: sizeBytes });
    return error === undefined;
  });
}

/** The blocks that the target is told to fetch. */
async function changedBlocks(disk: TrackedDisk): Promise<Set<number>> {
  await using checkpoint = await disk.checkpoint(TARGET, { drainLimitMs: 10_000 });
  const blocks = new Set<number>();
  for (const { offsetBytes, lengthBytes } of checkpoint.disks[0]?.changedExtents() ?? []) {
    const end = (offsetBytes + lengthBytes) / BLOCK;
    for (let block = offsetBytes / BLOCK; block < end; block++) blocks.add(block);
  }
  return blocks;
}

/** Files as e2fsprogs find them in the image, against what the guest meant to write. */
async function filesAreWhole(t: Test, imagePath: string, console: string): Promise<void> {
  const { exitCode, stdout } = await run("e2fsck", ["-fn", imagePath]);
  t.equal(exitCode, 0, stdout);
  const sums = [...console.matchAll(/^sum (\S+) ([0-9a-f]{64})$/gm)];
  t.ok(sums.length >= 3 * 9 + 1, `${sums.length} files`);
  const out = join(directory, "file");
  for (const [, name = "", sum] of sums) {
    await run("debugfs", ["-R", `dump /${name} ${out}`, imagePath]);
    const found = createHash("sha256")
      .update(await readFile(out))
      .digest("hex");
    t.equal(found, sum, name);
  }
}

void t.test("a disk grows under a running guest", { skip }, async (t) => {
  const sizeBytes = 24 * MIB;
  const grownBytes = 96 * MIB;
  const scene = await startScene(t, sizeBytes);
  const { disk, imagePath, before, guest, monitor } = scene;
  await guest.until(/^the load runs$/m);
  await grow(scene, grownBytes);
  await guest.until(new RegExp(`^the guest sees ${grownBytes / 512} sectors$`, "m"));
  const { status, output } = await guest.ended;
  monitor.end();
  t.equal(status, 0, output);

  const changed = await changedBlocks(disk);
  await disk.close();
  const after = await readFile(imagePath);
  t.equal(after.length, grownBytes);
  const unmarked: number[] = [];
  for (let block = 0; block < sizeBytes / BLOCK; block++) {
    const [from, to] = [block * BLOCK, (block + 1) * BLOCK];
    const isSame = after.subarray(from, to).equals(before.subarray(from, to));
    if (!isSame && !changed.has(block)) unmarked.push(block);
  }
  t.same(unmarked, [], "what differs is marked");
  const old = [...changed].filter((block) => block < sizeBytes / BLOCK);
  t.ok(old.length < sizeBytes / BLOCK, "and not simply everything");
  t.equal(changed.size - old.length, (grownBytes - sizeBytes) / BLOCK, "all of the new area is");
  t.ok(
    after.subarray(sizeBytes).some((byte) => byte !== 0),
    "which the guest has written to",
  );
  await filesAreWhole(t, imagePath, output);
});

/** A service whose disk grows by 40 MiB at a signal. */
const GROWING_SERVICE = `
import { TrackedDisk } from "/tidemark/dist/tracking/tracked-disk.js";

const [kind] = process.argv.slice(2);
const disk = await TrackedDisk.open({ path: "/srv/disk" });
const attached = await disk.attach({ kind, requestLimitMs: 2000 });
console.log("/srv/disk is " + attached.devicePath);
const alive = setInterval(() => undefined, 1e6);
process.once("SIGUSR2", () => disk.resize(disk.sizeBytes + 40 * ${MIB}));
process.once("SIGTERM", async () => {
  clearInterval(alive);
  await attached.detach();
  await disk.close();
});
`;

const ATTACHED_JOB = `${TIDEMARK_SHELL}${WRITERS}
size_is() { # MIB
  tries=0
  until [ "$(cat /sys/block/\${device#/dev/}/size)" = $(($1 * 2048)) ]; do
    [ $tries -lt 600 ] || fail "the device has not $1 MiB"
    tries=$((tries + 1))
    usleep 100000
  done
}
modprobe nbd
truncate -s 24M /srv/disk
start node growing.mjs nbd
mkfs.ext4 -q -b ${BLOCK} $device && mount $device /mnt || fail "mount"
start_writers
kill -USR2 $service
size_is 64
resize2fs $device || fail "resize2fs"
dd if=/dev/urandom of=/tmp/big bs=1M count=16 2> /dev/null
put /tmp/big big
kill -9 $service
truncate -s 96M /srv/disk
start node growing.mjs nbd
size_is 96
resize2fs $device || fail "resize2fs"
stop_writers
umount /mnt && mount $device /mnt || fail "mount"
for file in /tmp/sums/*; do
  [ "$(sha256sum < /mnt/$(basename $file))" = "$(cat $file)  -" ] || fail "$(basename $file)"
done
umount /mnt
detach
e2fsck -fn /srv/disk || fail "e2fsck"
no_errors
`;

/** A loop device stays as it is, and has the new size when it is attached again. */
const LOOP_JOB = `
modprobe loop
modprobe fuse
start node growing.mjs loop
kill -USR2 $service
until [ $(stat -c %s /srv/disk) = $((136 * ${MIB})) ]; do usleep 100000; done
dd if=/dev/zero of=$device bs=4k count=1 oflag=direct || fail "write"
size_is 96
detach
start node growing.mjs loop
size_is 136
detach
`;

void t.test(
  "a disk grows under its mounted /dev/nbdN, and by a service that comes back",
  { skip },
  async (t) => {
    const { status, output } = await runGuest({
      job: hasFuse ? ATTACHED_JOB + LOOP_JOB : ATTACHED_JOB,
      files: { "growing.mjs": GROWING_SERVICE },
      programs: ["mkfs.ext4", "resize2fs", "e2fsck"],
      modules: ["nbd", "fuse", "loop"],
      withProject: true,
      memoryMib: 512,
      limitMs: 500_000,
    });
    t.equal(status, 0, output);
  },
);
