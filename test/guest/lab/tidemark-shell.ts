/** Files that TIDEMARK_SHELL needs beside the job. */
export const SERVICE_FILES = {
  // As `tidemark attach`, by the library alone: it starts three times as fast.
  "service.mjs": `
import { TrackedDisk } from "/tidemark/dist/tracking/tracked-disk.js";

const [path, options = "{}"] = process.argv.slice(2);
const disk = await TrackedDisk.open({ path });
const attached = await disk.attach(JSON.parse(options));
const alive = setInterval(() => undefined, 1e6);
process.once("SIGTERM", async () => {
  clearInterval(alive);
  await attached.detach();
  await disk.close();
  console.log("detached");
});
// Last: who reads it may end the service at once.
console.log(path + " is " + attached.devicePath + (attached.isResumed ? " again" : ""));
`,
};

/** Shell functions for jobs that attach disks; `fail` ends the job with what is known. */
export const TIDEMARK_SHELL = `
tm() { node /tidemark/bin/tidemark.js "$@"; }
fail() { echo "FAILED: $*"; cat /tmp/attach.log; dmesg | tail -n 20; exit 1; }

# Starts a service in the background: sets $service (a process) and, as soon as it
# is attached, $device.
start() {
  : > /tmp/attach.log
  "$@" >> /tmp/attach.log 2>&1 &
  service=$!
  until grep -q ' is /dev/' /tmp/attach.log; do
    kill -0 $service 2> /dev/null || fail "$* ended"
    usleep 50000
  done
  device=$(sed -n 's/.* is \\(\\/dev\\/[a-z0-9]*\\).*/\\1/p' /tmp/attach.log)
}
# attach DISK [OPTIONS as JSON]
attach() { start node /job/service.mjs "$@"; }
detach() { kill -TERM $service; wait $service || fail "detach"; }

# The kernel's own words for what must never happen.
no_errors() {
  dmesg | grep -E 'I/O error|EXT4-fs error|EXT4-fs warning|Aborting journal|blocked for more' \\
    && fail "the kernel reports errors"
  return 0
}
`;
