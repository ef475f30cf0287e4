import { existsSync } from "node:fs";
import t from "tap";
import { DataDisk, MOUNT_DATA_DISK } from "./lab/data-disk.js";
import { type GuestResult, runGuest } from "./lab/guest.js";
import { guestIsMissing } from "./lab/missing.js";
import { SERVICE_FILES, TIDEMARK_SHELL } from "./lab/tidemark-shell.js";

const skip = await guestIsMissing();
const hasFuse = existsSync(new URL("../../build/Release/tidemark-fuse", import.meta.url));
/** PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE, which PR_SET_IO_FLUSHER sets; of /proc/PID/stat. */
const IO_FLUSHER_FLAGS = 0x180000;
const isSoak = process.env["TIDEMARK_SOAK"] === "1";

/**
 * The writer and all that serves the device share one memory limit, and little
 * memory is free besides: what the writer dirties can only be cleaned by
 * processes that need memory for it.
 */
function job(modules: string, start: string, writeMib: number): string {
  return `${TIDEMARK_SHELL}${MOUNT_DATA_DISK}
for module in ${modules}; do modprobe $module; done
truncate -s 700M /data/disk
${start}
mkfs.ext4 -q -O ^has_journal $device && mount $device /mnt || fail "mount"
echo +memory > /sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/box
echo 140M > /sys/fs/cgroup/box/memory.max
for process in $service $(pidof tidemark-fuse) $$; do
  echo $process > /sys/fs/cgroup/box/cgroup.procs
done
echo -1000 > /proc/$service/oom_score_adj
dd if=/dev/urandom of=/tmp/block bs=1M count=1 2> /dev/null
content() { for block in $(seq ${writeMib}); do cat /tmp/block; done; }
content > /mnt/file || fail "write"
sync
echo "pressure is over"
protected=0
for task in /proc/$service/task/* $(ls -d /proc/$(pidof tidemark-fuse || echo none)/task/* 2> /dev/null); do
  flags=$(sed 's/.*) //' $task/stat 2> /dev/null | cut -d' ' -f7)
  if [ $((\${flags:-0} & ${IO_FLUSHER_FLAGS})) = ${IO_FLUSHER_FLAGS} ]; then
    protected=$((protected + 1))
  fi
done
echo "$protected threads are I/O flushers"
echo $$ > /sys/fs/cgroup/cgroup.procs
echo 3 > /proc/sys/vm/drop_caches
content | cmp - /mnt/file || fail "content"
no_errors
`;
}

async function underPressure(modules: string[], start: string): Promise<GuestResult> {
  await using data = await DataDisk.create(1024);
  return await runGuest({
    job: job(modules.join(" "), start, isSoak ? 600 : 200),
    files: SERVICE_FILES,
    programs: ["mkfs.ext4"],
    modules,
    withProject: true,
    memoryMib: 320,
    limitMs: 450_000,
    qemu: data.qemu,
  });
}

void t.test("writing through /dev/nbdN goes on when memory is short", { skip }, async (t) => {
  const { status, output } = await underPressure(["nbd"], "attach /data/disk");
  t.match(output, /pressure is over/);
  t.match(output, /\n[1-9]\d* threads are I\/O flushers/);
  t.equal(status, 0, output);
});

if (isSoak) {
  void t.test(
    "writing through FUSE and a loop device goes on when memory is short",
    { skip: hasFuse ? skip : "libfuse3-dev is not installed" },
    async (t) => {
      const { status, output } = await underPressure(["fuse", "loop"], "attach /data/disk");
      t.match(output, /pressure is over/);
      t.match(output, /\n[1-9]\d* threads are I\/O flushers/);
      t.equal(status, 0, output);
    },
  );
}
