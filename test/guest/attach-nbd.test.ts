import t from "tap";
import { runGuest } from "./lab/guest.js";
import { guestIsMissing } from "./lab/missing.js";
import { SERVICE_FILES, TIDEMARK_SHELL } from "./lab/tidemark-shell.js";

const skip = await guestIsMissing("fio");

const PROGRAMS = ["mkfs.ext4", "e2fsck", "fio"];

/** Writes known blocks through the device, and compares what is marked with them. */
const MARKED_BLOCKS = `
import { execFileSync } from "node:child_process";
import { open } from "node:fs/promises";
import { TrackedDisk } from "/tidemark/dist/tracking/tracked-disk.js";

const BLOCK = 4096;
const disk = await TrackedDisk.open({ path: "/srv/disk", granularityBytes: BLOCK });
const attached = await disk.attach({ kind: "nbd" });
const dirty = () => {
  const blocks = [];
  const extents = disk.native.dirtyExtents("live", 0, 0, 100000, 2 ** 30);
  for (let i = 0; i < extents.length; i += 2) {
    for (let at = 0; at < extents[i + 1]; at += BLOCK) blocks.push((extents[i] + at) / BLOCK);
  }
  return blocks.join();
};
if (dirty() !== "") throw new Error("marked before anything was written: " + dirty());
const written = [0, 1, 2, 100, 101, 4095, 8191, 16383];
for (const block of written) {
  execFileSync("dd", ["if=/dev/urandom", "of=" + attached.devicePath, "bs=" + BLOCK, "count=1",
    "seek=" + block, "oflag=direct", "conv=notrunc"], { stdio: "ignore" });
}
if (dirty() !== written.join()) throw new Error("marked: " + dirty());
const [device, image] = [await open(attached.devicePath, "r"), await open("/srv/disk", "r")];
const [seen, stored] = [Buffer.alloc(BLOCK), Buffer.alloc(BLOCK)];
for (const block of written) {
  await device.read(seen, 0, BLOCK, block * BLOCK);
  await image.read(stored, 0, BLOCK, block * BLOCK);
  if (!seen.equals(stored) || seen.every((byte) => byte === 0)) throw new Error("block " + block);
}
await device.close();
await image.close();
await disk.close().then(
  () => { throw new Error("closed while attached"); },
  (error) => { if (error.code !== "IN_USE") throw error; },
);
await attached.detach();
await disk.close();
console.log("marked blocks are the written ones");
`;

void t.test(
  "a disk is /dev/nbdN: what is written there is stored and marked, and no more",
  { skip },
  async (t) => {
    const { status, output } = await runGuest({
      programs: PROGRAMS,
      modules: ["nbd"],
      withProject: true,
      memoryMib: 512,
      limitMs: 450_000,
      files: { ...SERVICE_FILES, "marked-blocks.mjs": MARKED_BLOCKS },
      job: `${TIDEMARK_SHELL}
truncate -s 64M /srv/disk
tm attach --disk /srv/disk --kind nbd && fail "attached without the module"
modprobe nbd
node marked-blocks.mjs || fail "marked blocks"
[ -e /run/tidemark/attach/* ] && fail "something is left in /run"

start tm attach --disk /srv/disk
mkfs.ext4 -q $device && mount $device /mnt || fail "mount"
tm detach $device && fail "detached a mounted disk"
kill -0 $service || fail "the service ended"
dd if=/dev/urandom of=/mnt/file bs=1M count=8 2> /dev/null
sum=$(sha256sum < /mnt/file)
umount /mnt
tm detach $device && wait $service || fail "detach"
e2fsck -fn /srv/disk || fail "e2fsck"
attach /srv/disk
mount $device /mnt && [ "$sum" = "$(sha256sum < /mnt/file)" ] || fail "the file differs"
umount /mnt
detach
no_errors
`,
    });
    t.equal(status, 0, output);
    t.match(output, /because its module is not loaded. Load it with: modprobe nbd/);
    t.match(output, /marked blocks are the written ones/);
    t.match(output, /Cannot detach \/dev\/nbd0: because it is in use/);
  },
);

/** A verified load; the service dies under it twice and is started again. */
const KILL_JOB = `${TIDEMARK_SHELL}
truncate -s 48M /srv/disk
modprobe nbd
attach /srv/disk '{"requestLimitMs":2000}'
mkfs.ext4 -q $device && mount $device /mnt || fail "mount"
fio --name=load --directory=/mnt --size=12M --rw=randwrite --bs=4k --direct=1 --fsync=16 \\
  --ioengine=psync --verify=crc32c --verify_fatal=1 --loops=2 --output=/tmp/fio.log &
load=$!
for round in 1 2; do
  sleep 2
  kill -0 $load || fail "the load ended before kill $round"
  kill -9 $service
  wait $service
  attach /srv/disk '{"requestLimitMs":2000}'
  grep -q 'again' /tmp/attach.log || fail "not found again"
done
wait $load || { cat /tmp/fio.log; fail "the load met an error"; }
umount /mnt
detach
e2fsck -fn /srv/disk || fail "e2fsck"
no_errors
`;

void t.test(
  "the service is killed under load and comes back: the mounted file system sees no error",
  { skip },
  async (t) => {
    const { status, output } = await runGuest({
      programs: PROGRAMS,
      modules: ["nbd"],
      withProject: true,
      memoryMib: 512,
      limitMs: 450_000,
      files: SERVICE_FILES,
      job: KILL_JOB,
    });
    t.equal(status, 0, output);
  },
);

void t.test(
  "when the service does not come back, I/O fails at its limit, and a forced detach ends it",
  { skip },
  async (t) => {
    const { status, output } = await runGuest({
      modules: ["nbd"],
      withProject: true,
      memoryMib: 512,
      limitMs: 450_000,
      files: SERVICE_FILES,
      job: `${TIDEMARK_SHELL}
truncate -s 16M /srv/disk
modprobe nbd
attach /srv/disk '{"requestLimitMs":1000,"reconnectLimitMs":2000}'
kill -9 $service
wait $service
dd if=/dev/zero of=$device bs=4k count=1 oflag=direct && fail "written to nobody"
tm detach $device && fail "detached without being forced"
tm detach --force $device || fail "detach --force"
[ -e /sys/block/nbd0/pid ] && fail "still connected"
attach /srv/disk
detach
`,
    });
    t.equal(status, 0, output);
    t.match(output, /because the process that served it is gone/);
  },
);
