/** `npm run test:nbd` on real block devices, which only a guest can spare. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import t from "tap";
import { DEVICE_CHECK_NAMES } from "../nbd/conformance/device-checks.js";
import { run, scratchDirectory } from "../support/program.js";
import { DataDisk } from "./lab/data-disk.js";
import { runGuest } from "./lab/guest.js";
import { guestIsMissing } from "./lab/missing.js";
import { SERVICE_FILES, TIDEMARK_SHELL } from "./lab/tidemark-shell.js";

const skip = await guestIsMissing("blkdiscard", "blockdev");
const hasFuse = existsSync(new URL("../../build/Release/tidemark-fuse", import.meta.url));
const directory = await scratchDirectory(t);
const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
t.setTimeout(600_000);

/** The suite as JavaScript, by the name of each file: a guest has no compiler. */
async function compiledSuite(): Promise<Record<string, string>> {
  const main = join(PROJECT, "test/nbd/conformance/main.ts");
  const options =
    "--ignoreConfig --module nodenext --target es2022 --lib es2023,esnext.disposable --types node --skipLibCheck";
  const places = ["--outDir", directory, "--rootDir", join(PROJECT, "test")].concat(
    "--typeRoots",
    join(PROJECT, "node_modules/@types"),
  );
  const compiler = [join(PROJECT, "node_modules/typescript/bin/tsc"), ...options.split(" ")];
  // The compiler cannot be loaded with the hooks that tap passes on.
  const command = ["-u", "NODE_OPTIONS", process.execPath, ...compiler, ...places, main];
  const { exitCode, stdout, stderr } = await run("env", command);
  if (exitCode !== 0) throw new Error(`Cannot compile the suite: ${stdout}${stderr}`);
  const files: Record<string, string> = { "suite/package.json": '{"type":"module"}' };
  for (const name of await readdir(directory, { recursive: true })) {
    if (!name.endsWith(".js")) continue;
    files[join("suite", name)] = await readFile(join(directory, name), "utf8");
  }
  return files;
}

const JOB = `${TIDEMARK_SHELL}
suite() { node /job/suite/nbd/conformance/main.js --operations 100 "$@"; }
holds_data() { # IMAGE
  echo precious | dd of=$device bs=512 seek=1000 conv=sync,fsync 2> /dev/null
  sum=$(sha256sum < $1)
  suite $device
  [ $? = 2 ] || fail "a device with data was not refused"
  [ "$(sha256sum < $1)" = "$sum" ] || fail "a refused device was written to"
}
suite /dev/vdb || fail "a blank disk"

truncate -s 8M /srv/disk /srv/other
modprobe nbd
attach /srv/disk
holds_data /srv/disk
suite --destroy-data $device || fail "$device"

mkdir /tmp/forgetful
cat > /tmp/forgetful/blockdev <<'END'
#!/bin/sh
/usr/bin/blockdev "$@" || exit
[ "$1" = --flushbufs ] || exit 0
for at in 2000 210000 420000 630000 840000; do
  printf wrong | dd of=/srv/disk bs=1 seek=$at conv=notrunc 2> /dev/null
done
END
chmod +x /tmp/forgetful/blockdev
(PATH=/tmp/forgetful:$PATH; suite --destroy-data $device)
[ $? = 1 ] || fail "a device that holds something else was not found out"
detach
no_errors
`;

const LOOP_JOB = `
modprobe loop
modprobe fuse
attach /srv/other '{"kind":"loop"}'
holds_data /srv/other
suite --destroy-data $device || fail "$device"
detach
no_errors
`;

void t.test(
  "the conformance suite on /dev/vdb, /dev/nbdN and /dev/loopN: data is refused first",
  { skip },
  async (t) => {
    await using blank = await DataDisk.create(8);
    const { status, output } = await runGuest({
      job: hasFuse ? JOB + LOOP_JOB : JOB,
      files: { ...SERVICE_FILES, ...(await compiledSuite()) },
      programs: ["blkdiscard", "blockdev"],
      modules: ["nbd", "fuse", "loop"],
      withProject: true,
      memoryMib: 512,
      limitMs: 500_000,
      qemu: blank.qemu,
    });
    t.equal(status, 0, output);
    for (const name of DEVICE_CHECK_NAMES) {
      const passed = output.match(new RegExp(`^${name} +ok$`, "gm")) ?? [];
      t.ok(passed.length >= (hasFuse ? 3 : 2), name);
    }
    t.match(output, /device-data-integrity +VIOLATES/);
    t.match(output, /the target holds data \(at byte 512000\)/);
  },
);
