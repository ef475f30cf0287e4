/**
 * Backups of a replicated VM from the command line: replication and the backup tool
 * are two consumers of the same disks, and neither disturbs the other.
 */
import { copyFile, readFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { BackupBody, BitmapBody } from "#lib/management/bitmap-schemas.js";
import { skipWithout, succeeds } from "../support/foreign-tools.js";
import { Guest, replicated, startPair } from "../support/loopback-host.js";
import { scratchDirectory, tidemark } from "../support/program.js";

const directory = await scratchDirectory(t);
const { primary, replicaUrl } = await startPair(t, directory);
const guest = await Guest.make(directory, "web");
const place = ["--dir", primary.paths.directory];
const NAME = "täglich 50%/☃";

t.setTimeout(300_000);

async function says(t: Test, ...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await tidemark(...place, ...args);
  t.same([exitCode, stderr], [0, ""], `tidemark ${args.join(" ")}`);
  return stdout;
}

async function json<T>(t: Test, ...args: readonly string[]): Promise<T> {
  return JSON.parse(await says(t, "--json", ...args)) as T;
}

async function refused(t: Test, code: string, ...args: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await tidemark(...place, ...args);
  t.equal(exitCode, 1, `tidemark ${args.join(" ")}`);
  t.match(stderr, new RegExp(`^tidemark: Cannot [^\\n]+ \\[${code}\\]\\n$`));
}

void t.test("bitmaps are added, listed, kept over a restart and removed", async (t) => {
  await guest.enable(primary, replicaUrl);
  await replicated(primary, guest.name);
  t.match(await says(t, "bitmap", "list", guest.name), /^No bitmaps/);
  t.match(
    await says(t, "bitmap", "add", guest.name, NAME),
    /: tidemark --dir \S+ backup begin web /,
  );
  await says(t, "bitmap", "add", guest.name, "x".repeat(255), "--start", "nothing");
  await refused(t, "ALREADY_EXISTS", "bitmap", "add", guest.name, NAME);
  await refused(t, "INVALID_ARGUMENT", "bitmap", "add", guest.name, "é".repeat(128));
  await refused(t, "INVALID_ARGUMENT", "bitmap", "add", guest.name, "live");
  await refused(t, "NOT_FOUND", "bitmap", "add", "nobody", NAME);
  await refused(t, "NOT_FOUND", "backup", "begin", guest.name, "other");
  await refused(t, "NOT_FOUND", "backup", "commit", guest.name, NAME);
  guest.disconnect();
  await primary.stop();
  await primary.start();
  const bitmaps = await json<BitmapBody[]>(t, "bitmap", "list", guest.name);
  t.same(
    bitmaps.map(({ name, disks }) => [name, disks[0]?.changedBytes]),
    [
      [NAME, guest.content.length],
      ["x".repeat(255), 0],
    ],
  );
  await says(t, "bitmap", "remove", guest.name, "x".repeat(255));
  await refused(t, "NOT_FOUND", "bitmap", "remove", guest.name, "x".repeat(255));
  t.match(await says(t, "bitmap", "list", guest.name), NAME);
});

void t.test(
  "a full backup, then one of the changes, while replication goes on",
  { skip: await skipWithout("nbdcopy", "nbdinfo", "qemu-img") },
  async (t) => {
    const full = join(directory, "full.raw");
    const said = await says(t, "backup", "begin", guest.name, NAME);
    t.match(said, / tidemark --dir \S+ backup commit web/);
    const uri = /nbd\+unix:\S+/.exec(said)?.[0] ?? "";
    await guest.write(4096, Buffer.alloc(8192, 7));
    await succeeds(t, "nbdcopy", uri, full);
    t.notOk((await readFile(full)).equals(guest.content), "of the cut, not of now");
    await refused(t, "IN_USE", "backup", "begin", guest.name, NAME);
    await refused(t, "IN_USE", "bitmap", "remove", guest.name, NAME);
    t.match(await says(t, "bitmap", "list", guest.name), /open, of 20\d\d-/);
    await says(t, "backup", "commit", guest.name, NAME);

    const oracle = join(directory, "oracle.raw");
    await guest.flush();
    await copyFile(guest.diskPath, oracle);
    const begun = await json<BackupBody>(t, "backup", "begin", guest.name, NAME, "--changes-only");
    t.equal(begun.context, `qemu:dirty-bitmap:${NAME}`);
    t.equal(begun.disks[0]?.changedBytes, 8192);
    const map = await succeeds(t, "nbdinfo", `--map=${begun.context}`, begun.disks[0]?.uri ?? "");
    t.match(map, /^ +4096 +8192 +1 +dirty$/m);
    await says(t, "backup", "abandon", guest.name, NAME);
    const again = await json<BackupBody>(t, "backup", "begin", guest.name, NAME);
    t.equal(again.disks[0]?.changedBytes, 8192, "they count again");
    await succeeds(t, "qemu-img", "compare", again.disks[0]?.uri ?? "", oracle);

    // What the host's end leaves open counts again, and its end does not wait for it.
    guest.disconnect();
    await primary.stop();
    await primary.start();
    await refused(t, "NOT_FOUND", "backup", "commit", guest.name, NAME);
    const last = await json<BackupBody>(t, "backup", "begin", guest.name, NAME);
    t.equal(last.disks[0]?.changedBytes, 8192);
    await replicated(primary, guest.name);
    await says(t, "vm", "remove", guest.name);
  },
);
