/** The command line as people and scripts use it. */
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { NbdClient } from "#lib/daemon/demo/nbd-client.js";
import type { HostStatus, RecoveryPointBody, VmStatus } from "#lib/management/schemas.js";
import { eventually, Guest } from "../support/loopback-host.js";
import {
  missingTool,
  type Outcome,
  RunningProgram,
  scratchDirectory,
  tidemark,
} from "../support/program.js";

const directory = await scratchDirectory(t);
const [caDirectory, primary, replica] = ["ca", "p", "r"].map((name) => join(directory, name));
const onPrimary = ["--dir", primary ?? ""];
const onReplica = ["--dir", replica ?? ""];
const guest = await Guest.make(directory, "vm1");

async function succeeds(t: Test, ...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await tidemark(...args);
  t.same([exitCode, stderr], [0, ""], `tidemark ${args.join(" ")}`);
  return stdout;
}

async function json<T>(t: Test, ...args: readonly string[]): Promise<T> {
  return JSON.parse(await succeeds(t, "--json", ...args)) as T;
}

let failureCount = 0;

/** One sentence, perhaps what to do, and the code in brackets; an object with --json (two in three). */
async function fails(t: Test, code: string, ...args: readonly string[]): Promise<void> {
  failureCount += 1;
  const isPlain = failureCount % 3 === 0;
  const { exitCode, stdout, stderr } = await tidemark(...(isPlain ? [] : ["--json"]), ...args);
  const name = `tidemark ${args.join(" ")}`;
  t.same([exitCode, stdout], [1, ""], name);
  if (isPlain) {
    t.match(stderr, new RegExp(`^tidemark: Cannot [^\\n]+ \\[${code}\\]\\n$`), name);
    return;
  }
  const { error } = JSON.parse(stderr) as { error: { code: string; message: string } };
  t.equal(error.code, code, name);
  t.match(error.message, /^Cannot [^\n]+\.$/, name);
}

void t.test("a command explains itself", async (t) => {
  for (const [path, shown] of [
    [[], / {2}vm +replicated VMs/],
    [["vm"], / {2}status \[vm\] /],
    [["vm", "status"], /^Usage: tidemark vm status /],
  ] as const) {
    t.match(await succeeds(t, ...path, "--help"), shown, path.join(" "));
  }
  t.match(await succeeds(t, "help", "vm", "disk", "add"), /^Usage: tidemark vm disk add /);
  t.match(await succeeds(t, "--version"), /^\d+\.\d+\.\d+\n$/);
});

void t.test("what commander refuses goes to standard error", async (t) => {
  for (const args of [["nonsense"], ["vm", "enable", "x"], ["track"], ["host", "init", "--nope"]]) {
    const { exitCode, stdout, stderr } = await tidemark(...args);
    t.same([exitCode, stdout], [1, ""], args.join(" "));
    t.match(stderr, /^error: /, args.join(" "));
  }
});

void t.test("pki init and issue, host init", async (t) => {
  t.match(await succeeds(t, "pki", "init", "--out", caDirectory ?? ""), /Wrote .*ca\.crt/);
  await fails(t, "ALREADY_EXISTS", "pki", "init", "--out", caDirectory ?? "");
  const init = ["host", "init", "--listen", "127.0.0.1:0", "--name"];
  t.match(await succeeds(t, ...onPrimary, ...init, "p.example"), /Wrote .*host\.json/);
  await fails(t, "ALREADY_EXISTS", ...onPrimary, ...init, "p.example");
  await fails(t, "INVALID_ARGUMENT", ...onReplica, "host", "init", "--listen", "nowhere");
  const asReplica = [...onReplica, ...init, "r.example", "--replica-root", "replica"];
  const files = await json<{ configuration: string }>(t, ...asReplica);
  t.equal(files.configuration, join(replica ?? "", "host.json"));
  await fails(t, "NOT_FOUND", ...onPrimary, "host", "start");
  for (const host of [primary, replica]) {
    const place = ["--ca", caDirectory ?? "", "--out", join(host ?? "", "pki")];
    await succeeds(t, "pki", "issue", "localhost", "127.0.0.1", ...place);
  }
  const key = await stat(join(primary ?? "", "pki", "host.key"));
  t.equal(key.mode & 0o077, 0, "the key is the owner's alone");
  await fails(t, "NOT_FOUND", "pki", "issue", "a", "--ca", directory, "--out", directory);
});

let hosts: RunningProgram[] = [];
let replicaUrl = "";

void t.test("host start and status", async (t) => {
  await fails(t, "UNREACHABLE", ...onPrimary, "host", "status");
  await fails(t, "NOT_FOUND", "--dir", join(directory, "none"), "host", "start");
  const start = (place: readonly string[]) =>
    RunningProgram.start(root, [...place, "host", "start"], /^Host .* is ready: .*\n$/);
  hosts = [await start(onPrimary), await start(onReplica)];
  const status = await json<HostStatus>(t, ...onReplica, "host", "status");
  t.equal(status.processId, hosts[1]?.processId);
  t.equal(status.hostName, "r.example");
  replicaUrl = `https://${status.peerAddress ?? ""}`;
  t.match(await succeeds(t, ...onReplica, "host", "status"), /Host r\.example.*\n.*\n\nNo VMs yet/);
  t.match(await succeeds(t, ...onPrimary, "vm", "status"), /^VM +ROLE +STATE/);
  t.same(await json(t, ...onPrimary, "vm", "status"), []);
  const socket = await stat(join(primary ?? "", "api.sock"));
  t.equal(socket.mode & 0o077, 0, "the API is the owner's alone");
});

const root = { teardown: (work: () => Promise<void> | void) => t.teardown(work) };

function enable(...more: readonly string[]): string[] {
  const place = ["--disk", guest.diskPath, "--replica", replicaUrl];
  return [...onPrimary, "vm", "enable", guest.name, ...place, ...more];
}

async function pointsOf(t: Test): Promise<RecoveryPointBody[]> {
  return json(t, ...onReplica, "vm", "points", guest.name);
}

void t.test("vm enable, status and points", async (t) => {
  await fails(t, "NOT_FOUND", ...onPrimary, "vm", "status", guest.name);
  await fails(t, "INVALID_ARGUMENT", ...enable("--every", "soon"));
  await fails(t, "INVALID_ARGUMENT", ...enable("--every", "10ms"));
  await fails(t, "INVALID_ARGUMENT", ...enable("--compression", "many"));
  await fails(t, "INVALID_ARGUMENT", ...enable("--replica", "http://127.0.0.1:1"));
  const vm = await json<VmStatus>(t, ...enable("--every", "1s"));
  guest.uri = vm.disks[0]?.uri ?? "";
  await fails(t, "ALREADY_EXISTS", ...enable());
  await eventually("points", async () => (await pointsOf(t)).length > 1 || writeSomething());
  const human = await succeeds(t, ...onReplica, "vm", "points", guest.name);
  t.match(human, /^NUMBER +POINT +TAKEN +CONSISTENCY +CHANGED +STORED\n/);
  t.match(await succeeds(t, ...onPrimary, "vm", "status", guest.name), /Last cycle: /);
  t.match(await succeeds(t, ...onReplica, "vm", "status", guest.name), /recovery points, /);
  const byId = await json<VmStatus>(t, ...onReplica, "vm", "status", vm.vmId);
  t.equal(byId.role, "replica");
  await fails(t, "NOT_FOUND", ...onPrimary, "vm", "points", guest.name);
});

async function writeSomething(): Promise<false> {
  await guest.write(Math.floor(Math.random() * 1000) * 4096, Buffer.alloc(4096, 5));
  return false;
}

void t.test("vm test-failover and close", async (t) => {
  const open = [...onReplica, "vm", "test-failover", guest.name];
  const opened = await json<{ exportId: string; disks: { uri: string }[] }>(t, ...open);
  const client = await NbdClient.connect(opened.disks[0]?.uri ?? "");
  t.equal(client.sizeBytes, guest.content.length);
  await client.write(0, Buffer.alloc(4096, 1));
  client.close();
  const status = await succeeds(t, ...onReplica, "vm", "status", guest.name);
  t.match(status, `Test failover ${opened.exportId}`);
  t.match(await succeeds(t, ...onReplica, "vm", "close", opened.exportId), /^Closed\.\n$/);
  await fails(t, "NOT_FOUND", ...onReplica, "vm", "close", opened.exportId);
  const [first] = await pointsOf(t);
  const number = String(first?.sequence);
  const human = await succeeds(t, ...open, "--point", number);
  const exportId = / vm close (\S+)\n$/.exec(human)?.[1] ?? "";
  t.match(human, `Recovery point ${number} of `);
  await json(t, ...onReplica, "vm", "close", exportId);
  await fails(t, "NOT_FOUND", ...open, "--point", "4711");
  await fails(t, "NOT_FOUND", ...open, "--point", "00000000-0000-4000-8000-000000000000");
  await fails(t, "INVALID_ARGUMENT", ...open, "--point", "latest");
  await fails(t, "NOT_FOUND", ...onPrimary, "vm", "test-failover", guest.name);
  await fails(t, "CONFLICT", ...onPrimary, "vm", "cancel-failover", guest.name);
  await fails(t, "NOT_FOUND", ...onPrimary, "vm", "failover", guest.name);
});

void t.test("point label, pin, unpin and delete", async (t) => {
  await eventually("points", async () => (await pointsOf(t)).length > 3 || writeSomething());
  const [, second, third] = await pointsOf(t);
  const [number, id] = [String(second?.sequence), third?.pointId ?? ""];
  const point = (what: string, ...more: readonly string[]) =>
    onReplica.concat("point", what, guest.name, more);
  t.match(await succeeds(t, ...point("label", number, "before it")), /is "before it"\.\n$/);
  t.match(await succeeds(t, ...point("pin", number)), /is pinned\.\n$/);
  t.match(await succeeds(t, ...onReplica, "vm", "points", guest.name), /pinned +before it\n/);
  await fails(t, "CONFLICT", ...point("delete", number));
  await fails(t, "CONFLICT", ...point("delete", (await pointsOf(t)).at(-1)?.pointId ?? ""));
  await fails(t, "INVALID_ARGUMENT", ...point("label", number, "two\nlines"));
  await fails(t, "NOT_FOUND", ...point("pin", "4711"));
  t.match(await succeeds(t, ...point("label", number)), /has no label\.\n$/);
  t.match(await json(t, ...point("unpin", number)), { label: null, isPinned: false });
  t.match(await succeeds(t, ...point("delete", number)), /^Deleted recovery point /);
  t.same(await json(t, ...point("delete", id)), {});
  await fails(t, "NOT_FOUND", ...point("delete", id));
  const left = (await pointsOf(t)).map(({ pointId }) => pointId);
  t.notOk(left.includes(second?.pointId ?? "") || left.includes(id));
});

void t.test("vm retention", async (t) => {
  const retention = (...more: readonly string[]) =>
    onReplica.concat("vm", "retention", guest.name, more);
  t.match(await succeeds(t, ...retention()), /^Keeps 1h:all 1d:5m 1w:1h \(the host's\)\n/);
  const own = await json(t, ...retention("--keep", "2h:all", "2d:10m", "--quota", "1GiB"));
  t.match(own, { quotaBytes: 2 ** 30, own: { tiers: [{ everyMs: 0 }, { everyMs: 600_000 }] } });
  const text = await succeeds(t, ...retention("--points", "3"));
  t.match(text, /2h:all 2d:10m \(its own\)\nAt most 3 points.*\nQuota 1\.0 GiB \(its own\)/);
  await eventually("thinning", async () => (await pointsOf(t)).length <= 3);
  const none = await json(t, ...retention("--default", "--quota", "none"));
  t.same((none as { own: unknown }).own, { quotaBytes: null });
  await fails(t, "INVALID_ARGUMENT", ...retention("--keep", "1d:5m", "1h:all"));
  await fails(t, "INVALID_ARGUMENT", ...retention("--keep", "for ever"));
  await fails(t, "INVALID_ARGUMENT", ...retention("--quota", "much"));
  await fails(t, "NOT_FOUND", ...onPrimary, "vm", "retention", guest.name);
});

void t.test("vm suspend, resume and remove", async (t) => {
  const state = async () =>
    (await json<VmStatus>(t, ...onPrimary, "vm", "status", guest.name)).relationship?.state;
  t.match(await succeeds(t, ...onPrimary, "vm", "suspend", guest.name), /^Suspended vm1\.\n$/);
  t.equal(await state(), "suspended");
  const before = (await pointsOf(t)).length;
  await writeSomething();
  t.match(await succeeds(t, ...onPrimary, "vm", "resume", guest.name), /^Resumed vm1\.\n$/);
  t.equal(await state(), "replicating");
  await eventually("another point", async () => (await pointsOf(t)).length > before);
  guest.disconnect();
  t.match(await succeeds(t, ...onPrimary, "vm", "remove", guest.name), /^Removed vm1\.\n$/);
  await fails(t, "NOT_FOUND", ...onPrimary, "vm", "remove", guest.name);
  t.ok((await pointsOf(t)).length > before, "the replica keeps what it has");
  t.ok((await readFile(guest.diskPath)).equals(guest.content), "and the disk is the guest's");
});

async function endsCleanly(t: Test, running: RunningProgram): Promise<Outcome> {
  const outcome = await running.stop("SIGINT");
  t.same([outcome.exitCode, outcome.signal], [0, null], outcome.stderr);
  return outcome;
}

void t.test("Ctrl-C ends the hosts cleanly", async (t) => {
  for (const running of hosts) await endsCleanly(t, running);
  for (const host of [primary ?? "", replica ?? ""]) {
    const left = await readdir(host, { recursive: true });
    t.same(
      left.filter((file) => file.endsWith(".sock")),
      [],
    );
  }
  await fails(t, "UNREACHABLE", ...onPrimary, "host", "status");
});

void t.test("track", async (t) => {
  const socket = join(directory, "t.sock");
  const track = ["track", "--disk", guest.diskPath];
  await fails(t, "INVALID_ARGUMENT", ...track);
  await fails(t, "INVALID_ARGUMENT", ...track, "--listen", "0.0.0.0:0");
  await fails(t, "INVALID_ARGUMENT", ...track, "--socket", socket, "--listen", "127.0.0.1:0");
  await fails(t, "INVALID_ARGUMENT", ...track, "--socket", socket, "--granularity", "some");
  const running = await RunningProgram.start(t, [...track, "--socket", socket], /Ctrl-C stops/);
  t.match(running.stdout, `nbd+unix:///?socket=${socket}`);
  t.match(running.stdout, "changes marked in");
  await endsCleanly(t, running);
  await t.rejects(stat(socket), { code: "ENOENT" });
  const plain = ["--json", ...track, "--no-tracking", "--listen", "127.0.0.1:0"];
  const untracked = await RunningProgram.start(t, plain, /\n\}\n$/);
  const state = JSON.parse(untracked.stdout) as { uri: string; bitmapPath: string | null };
  t.match(state.uri, /^nbd:\/\/127\.0\.0\.1:\d+\/$/);
  t.equal(state.bitmapPath, null);
  await endsCleanly(t, untracked);
});

/** The processes whose command line names the directory. */
async function processesOf(path: string): Promise<string[]> {
  const found: string[] = [];
  for (const id of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const command = await readFile(`/proc/${id}/cmdline`, "utf8").catch(() => "");
    if (command.includes(path)) found.push(id);
  }
  return found;
}

const noDemo = await missingTool("mkfs.ext4", "debugfs").then((name) =>
  name === null ? false : `${name} is not installed`,
);

void t.test(
  "Ctrl-C ends the demonstration and all that it started",
  { skip: noDemo },
  async (t) => {
    const small = ["demo", "--size", "64MiB"];
    for (const moment of [/Replicating every/, /cycle +1 /]) {
      const workDirectory = join(directory, "demo");
      const demo = RunningProgram.launch(t, [...small, "--work-dir", workDirectory]);
      await demo.waitFor(moment);
      t.ok((await processesOf(workDirectory)).length >= 3, "two hosts and the demonstration");
      await endsCleanly(t, demo);
      await sleep(0);
      t.same(await processesOf(workDirectory), []);
      await t.rejects(stat(workDirectory), { code: "ENOENT" });
    }
  },
);

void t.test("a demonstration that may not write says so", { skip: noDemo }, async (t) => {
  const file = join(directory, "file");
  await writeFile(file, "");
  const { exitCode, stderr } = await tidemark("demo", "--work-dir", file);
  t.equal(exitCode, 1);
  t.match(stderr, /^tidemark: [^\n]+\n$/);
  t.ok((await stat(file)).isFile(), "and touches nothing");
});
