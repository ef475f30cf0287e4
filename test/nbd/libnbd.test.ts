/** Cases of libnbd's own suite against our server, by its names, with libnbd as the client. */
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import {
  missingTool,
  type Outcome,
  RunningProgram,
  run,
  scratchDirectory,
} from "../support/program.js";
import { until } from "../support/until.js";

const SIZE_BYTES = 8 << 20;
const directory = await scratchDirectory(t);
const missing = await missingTool("nbdsh", "nbdinfo", "nbdcopy", "qemu-io");
const skip = missing === null ? false : `${missing} is not installed`;
let diskCount = 0;

async function served(t: Test): Promise<{ readonly uri: string; readonly path: string }> {
  diskCount += 1;
  const path = join(directory, `disk-${diskCount}.raw`);
  await writeFile(path, randomBytes(SIZE_BYTES));
  const socket = join(directory, `disk-${diskCount}.sock`);
  await RunningProgram.start(t, ["track", "--disk", path, "--socket", socket], /Ctrl-C/);
  return { uri: `nbd+unix:///?socket=${socket}`, path };
}

/** `h` is a handle that is not connected yet; an assertion that fails ends the script. */
async function nbdsh(t: Test, uri: string, script: string): Promise<void> {
  // Debian's nbdsh needs Debian's python3, whichever comes first in PATH.
  const command = ["PATH=/usr/bin:/bin", "nbdsh", "-c", `uri = "${uri}"`, "-c", script];
  const { exitCode, stderr } = await run("env", command);
  t.equal(exitCode, 0, stderr);
}

void t.test("structured-read: data in chunks that cover the request", { skip }, async (t) => {
  const { uri } = await served(t);
  await nbdsh(
    t,
    uri,
    `
h.connect_uri(uri)
assert h.get_structured_replies_negotiated()
h.zero(65536, 65536)
seen = []
def take(data, offset, status, error):
    assert error.value == 0 and status in (nbd.READ_DATA, nbd.READ_HOLE)
    seen.append((offset, len(data)))
whole = h.pread_structured(262144, 0, take)
assert sum(length for _, length in seen) == 262144
assert whole[65536:131072] == bytearray(65536)
if h.can_df():
    seen.clear()
    h.pread_structured(65536, 0, take, nbd.CMD_FLAG_DF)
    assert len(seen) == 1
`,
  );
});

void t.test("dirty-bitmap: what was written is what is dirty", { skip }, async (t) => {
  const { uri } = await served(t);
  await nbdsh(
    t,
    uri,
    `
context = "qemu:dirty-bitmap:live"
h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.add_meta_context(context)
h.connect_uri(uri)
assert h.can_meta_context(context)
def dirty():
    found = []
    def take(name, offset, entries, error):
        at = offset
        for length, flags in zip(entries[::2], entries[1::2]):
            if name == context and flags & 1:
                found.append((at, length))
            at += length
    h.block_status(h.get_size(), 0, take)
    return found
assert dirty() == []
h.pwrite(b"x" * 5000, 1048576)
h.zero(4096, 2097152)
h.trim(8192, 4194304)
assert dirty() == [(1048576, 8192), (2097152, 4096), (4194304, 8192)], dirty()
`,
  );
});

void t.test("list-exports: the export, its size and its contexts", { skip }, async (t) => {
  const { uri } = await served(t);
  const { exitCode, stdout } = await run("nbdinfo", ["--list", "--json", uri]);
  t.equal(exitCode, 0);
  const { exports } = JSON.parse(stdout) as { exports: Record<string, unknown>[] };
  t.equal(exports.length, 1);
  t.equal(exports[0]?.["export-size"], SIZE_BYTES);
  t.match(exports[0]?.["contexts"], ["base:allocation", "qemu:dirty-bitmap:live"]);
});

void t.test(
  "errors-server-*: the right errno for each, and the connection stays",
  { skip },
  async (t) => {
    const { uri } = await served(t);
    await nbdsh(
      t,
      uri,
      `
import errno
h.connect_uri(uri)
h.set_strict_mode(0)
size = h.get_size()
def fails(expected, call):
    try:
        call()
    except nbd.Error as error:
        assert error.errnum == expected, error
    else:
        assert False, "no error"
fails(errno.EINVAL, lambda: h.pread(1, size))
fails(errno.EINVAL, lambda: h.pread(512, size - 511))
fails(errno.ENOSPC, lambda: h.pwrite(b"x", size))
fails(errno.ENOSPC, lambda: h.zero(512, size))
fails(errno.EINVAL, lambda: h.trim(512, size))
fails(errno.EINVAL, lambda: h.pread(512, 0, 1 << 14))
fails(errno.EINVAL, lambda: h.block_status(512, size, lambda *_: 0))
h.pread(512, 0)
h.shutdown()
`,
    );
  },
);

function storageDaemon(ours: string, socket: string): Promise<Outcome> {
  return run("setpriv", [
    "--pdeathsig",
    "KILL",
    "qemu-storage-daemon",
    "--blockdev",
    `driver=nbd,node-name=n,server.type=unix,server.path=${ours},export=`,
    "--nbd-server",
    `addr.type=unix,addr.path=${socket}`,
    "--export",
    "type=nbd,id=e,node-name=n,name=,writable=on",
    "--pidfile",
    join(directory, "qsd.pid"),
  ]);
}

const noDaemon = await missingTool("qemu-storage-daemon");

void t.test(
  "qemu-storage-daemon: our export under another server",
  { skip: skip === false && noDaemon !== null ? `${noDaemon} is not installed` : skip },
  async (t) => {
    const { uri, path } = await served(t);
    const socket = join(directory, "qsd.sock");
    const ours = new URL(uri).searchParams.get("socket") ?? "";
    const daemon = storageDaemon(ours, socket);
    const over = `nbd+unix:///?socket=${socket}`;
    await until(
      "the daemon",
      10_000,
      async () => (await run("nbdinfo", ["--size", over])).exitCode === 0,
    );
    const write = await run("qemu-io", [
      "-f",
      "raw",
      "-c",
      "write -P 7 1M 64k",
      "-c",
      "flush",
      over,
    ]);
    t.equal(write.exitCode, 0, write.stderr);
    const copied = join(directory, "qsd.raw");
    t.equal((await run("nbdcopy", [over, copied])).exitCode, 0);
    t.ok(
      (await readFile(copied)).equals(await readFile(path)),
      "what it serves is what the file holds",
    );
    process.kill(Number(await readFile(join(directory, "qsd.pid"), "utf8")));
    await daemon;
  },
);
