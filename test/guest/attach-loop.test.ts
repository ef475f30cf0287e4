import { existsSync } from "node:fs";
import t from "tap";
import { runGuest } from "./lab/guest.js";
import { guestIsMissing } from "./lab/missing.js";
import { SERVICE_FILES, TIDEMARK_SHELL } from "./lab/tidemark-shell.js";

const hasFuse = existsSync(new URL("../../build/Release/tidemark-fuse", import.meta.url));
const skip = hasFuse ? await guestIsMissing("fio") : "libfuse3-dev is not installed";

const GUEST = {
  programs: ["mkfs.ext4", "e2fsck", "fio"],
  modules: ["loop", "fuse"],
  files: SERVICE_FILES,
  withProject: true,
  memoryMib: 512,
  limitMs: 500_000,
} as const;

void t.test(
  "without nbd a disk is a loop device over FUSE, and the service's death is a pause",
  { skip },
  async (t) => {
    const { status, output } = await runGuest({
      ...GUEST,
      job: `${TIDEMARK_SHELL}
truncate -s 48M /srv/disk
modprobe fuse
node service.mjs /srv/disk && fail "attached without loop"
[ "$(grep -c tidemark /proc/mounts)" = 0 ] || fail "a FUSE mount is left"
modprobe loop
attach /srv/disk
case $device in /dev/loop*) ;; *) fail "not a loop device" ;; esac
grep -q 1 /sys/block/\${device#/dev/}/loop/dio || fail "no direct I/O"
mkfs.ext4 -q $device && mount $device /mnt || fail "mount"
fio --name=load --directory=/mnt --size=12M --rw=randwrite --bs=4k --direct=1 --fsync=16 \\
  --ioengine=psync --verify=crc32c --verify_fatal=1 --output=/tmp/fio.log &
load=$!
sleep 1
kill -0 $load || fail "the load ended before the kill"
kill -9 $service
wait $service
attach /srv/disk
grep -q again /tmp/attach.log || fail "not found again"
wait $load || { cat /tmp/fio.log; fail "the load met an error"; }
fstrim /mnt || fail "fstrim"
umount /mnt
detach
[ "$(grep -c tidemark /proc/mounts)" = 0 ] || fail "a FUSE mount is left"
pidof tidemark-fuse && fail "the FUSE process is left"
[ -e /run/tidemark/attach/* ] && fail "something is left in /run"
e2fsck -fn /srv/disk || fail "e2fsck"
no_errors
`,
    });
    t.equal(status, 0, output);
    t.match(output, /because the kernel's loop module is not loaded. Load it with: modprobe loop/);
  },
);

void t.test(
  "a FUSE process that hangs or dies holds nothing up: its connection is aborted",
  { skip },
  async (t) => {
    const { status, output } = await runGuest({
      ...GUEST,
      job: `${TIDEMARK_SHELL}
truncate -s 16M /srv/disk
modprobe fuse; modprobe loop
attach /srv/disk
kill -STOP $(pidof tidemark-fuse)
kill -9 $service
wait $service
dd if=/dev/zero of=$device bs=4k count=1 oflag=direct 2> /tmp/dd.log &
writer=$!
sleep 1
kill -0 $writer || fail "the write did not wait"
tm detach --force $device || fail "detach --force"
wait $writer && fail "written to nobody"
[ "$(grep -c tidemark /proc/mounts)" = 0 ] || fail "a FUSE mount is left"

attach /srv/disk
kill -9 $(pidof tidemark-fuse)
dd if=/dev/zero of=$device bs=4k count=1 oflag=direct && fail "written to nobody"
kill -9 $service
wait $service
attach /srv/disk
grep -q again /tmp/attach.log && fail "a dead device was taken for a live one"
dd if=/dev/zero of=$device bs=4k count=1 oflag=direct || fail "write"
detach
`,
    });
    t.equal(status, 0, output);
  },
);
