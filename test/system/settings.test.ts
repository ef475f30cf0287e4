/** Settings, throttle, resynchronization policy and the first copy, between real hosts by the command line. */
import { open } from "node:fs/promises";
import t, { type Test } from "tap";
import type { VmStatus } from "#lib/management/schemas.js";
import type { VmStatisticsBody } from "#lib/management/statistics-schemas.js";
import { randomBytes } from "node:crypto";
import { ConnectProxy } from "../support/connect-proxy.js";
import {
  contentOfPoint,
  eventually,
  Guest,
  pointsOf,
  replicated,
  startPair,
} from "../support/loopback-host.js";
import { scratchDirectory, tidemark } from "../support/program.js";

t.setTimeout(300_000);

const directory = await scratchDirectory(t);
const pair = await startPair(t, directory);
const guest = await Guest.make(directory, "vm1");
const onPrimary = ["--dir", pair.primary.paths.directory];

async function succeeds(t: Test, ...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await tidemark(...onPrimary, ...args);
  t.same([exitCode, stderr], [0, ""], `tidemark ${args.join(" ")}`);
  return stdout;
}

async function fails(t: Test, code: string, ...args: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await tidemark(...onPrimary, ...args);
  t.equal(exitCode, 1, args.join(" "));
  t.match(stderr, new RegExp(`^tidemark: Cannot [^\\n]+ \\[${code}\\]\\n$`), args.join(" "));
}

type Relationship = NonNullable<VmStatus["relationship"]>;

async function relationship(): Promise<Relationship> {
  const status = await pair.primary.vm(guest.name);
  if (status.relationship === null) throw new Error("there is no relationship");
  return status.relationship;
}

function requirePresent<T>(value: T | null): T {
  if (value !== null) return value;
  throw new Error("it is not there");
}

const inState = (state: Relationship["state"]) =>
  eventually(`state ${state}`, async () => (await relationship()).state === state);

/** A recovery point that holds what the guest was acknowledged. */
async function isReplicated(): Promise<boolean> {
  await replicated(pair.primary, guest.name);
  return (await contentOfPoint(pair.replica, guest.name)).equals(guest.content);
}

void t.test("the first copy: by hand, at a time, throttled, cancelled, paused", async (t) => {
  const disk = ["--disk", guest.diskPath, "--replica", pair.replicaUrl];
  const slow = ["--throttle", "160KiB"];
  const enable = ["vm", "enable", guest.name, ...disk, "--every", "1s", ...slow];
  await fails(t, "INVALID_ARGUMENT", ...enable, "--initial", "some day");
  await fails(t, "INVALID_ARGUMENT", ...enable, "--initial", "+200h");
  const vm = JSON.parse(await succeeds(t, "--json", ...enable, "--initial", "manual")) as VmStatus;
  guest.uri = vm.disks[0]?.uri ?? "";
  t.match(await succeeds(t, "vm", "status", guest.name), /The first copy is started by hand/);
  await guest.write(0, randomBytes(4096));
  const start = ["vm", "initial-replication", "start", guest.name];
  await succeeds(t, ...start, "--at", "+2h");
  t.match(await succeeds(t, "vm", "status", guest.name), /The first copy starts at 20/);
  t.match(await succeeds(t, ...start), /starts now/);
  const isMoving = async () => ((await relationship()).initialProgress?.bytesPerSecond ?? 0) > 0;
  await eventually("progress", isMoving);
  t.match(
    await succeeds(t, "vm", "status", guest.name),
    /First copy: .* of .* %\), .*\/s, .* left/,
  );
  await succeeds(t, "vm", "initial-replication", "cancel", guest.name);
  t.equal((await relationship()).state, "ready");
  await succeeds(t, ...start);
  await eventually("progress", isMoving);
  await succeeds(t, "vm", "suspend", guest.name);
  await succeeds(t, "vm", "resume", guest.name);
  t.equal((await pointsOf(pair.replica, guest.name)).length, 0, "it is throttled");
  await succeeds(t, "vm", "set", guest.name, "--throttle", "unlimited");
  await inState("replicating");
  t.ok(await isReplicated());
  await fails(t, "CONFLICT", "vm", "initial-replication", "cancel", guest.name);
});

void t.test("compression: off travels as it is, a level does not, adaptive works", async (t) => {
  const pattern = Buffer.alloc(1 << 20, "the quick brown fox ");
  for (const [compression, isSmaller] of [
    ["off", false],
    ["3", true],
    ["adaptive", true],
  ] as const) {
    await succeeds(t, "vm", "set", guest.name, "--compression", compression);
    pattern[0] = (pattern[0] ?? 0) + 1;
    for (let at = 0; at < pattern.length; at += 4096) pattern.writeUInt32LE(at ^ pattern[0], at);
    await guest.write(0, pattern);
    const sent = await eventually("a cycle with changes", async () => {
      const last = (await relationship()).lastCycle;
      return last !== null && last.changedBytes > 0 && last;
    });
    const all = sent.changedBytes;
    t.equal(sent.sentBytes < all / 2, isSmaller, `${compression}: ${sent.sentBytes} of ${all}`);
    t.ok(await isReplicated(), compression);
  }
  await fails(t, "INVALID_ARGUMENT", "vm", "set", guest.name, "--compression", "20");
});

void t.test(
  "blocks that are rewritten unchanged do not travel, and A to B to A does",
  async (t) => {
    const set = ["vm", "set", guest.name, "--skip-unchanged"];
    await fails(t, "INVALID_ARGUMENT", ...set, "perhaps");
    t.match(await succeeds(t, ...set, "on"), /Unchanged blocks are left out/);
    const counted = async () => {
      const shown = await succeeds(t, "--json", "vm", "statistics", guest.name);
      return requirePresent((JSON.parse(shown) as VmStatisticsBody).current);
    };
    /** What of this content did not travel, and how much was sent. */
    const leftOut = async (content: Buffer) => {
      const before = await counted();
      await guest.write(0, content);
      t.ok(await isReplicated());
      const after = await eventually("its cycle", async () => {
        const now = await counted();
        return now.changedBytes >= before.changedBytes + content.length && now;
      });
      return [after.unchangedBytes - before.unchangedBytes, after.sentBytes - before.sentBytes];
    };
    const [one, other] = [randomBytes(64 * 4096), randomBytes(64 * 4096)];
    t.match(await leftOut(one), [0], "nothing was known");
    const [unchanged, sent = 0] = await leftOut(one);
    t.equal(unchanged, one.length);
    t.ok(sent < 4096, `${sent} were sent`);
    t.match(await leftOut(other), [0]);
    one.copy(other, 0, 0, 16 * 4096);
    t.match(await leftOut(other), [48 * 4096]);
    t.match(await succeeds(t, "vm", "statistics", guest.name), /not sent: 448\.0 KiB/);
    await pair.primary.stop("SIGKILL");
    await pair.primary.start();
    guest.disconnect();
    guest.uri = (await pair.primary.vm(guest.name)).disks[0]?.uri ?? "";
    t.match(await leftOut(other), [other.length], "it is known after a kill");
    await succeeds(t, ...set, "off");
    t.match(await leftOut(other), [0]);
  },
);

void t.test("settings and the host's limits survive kill -9", async (t) => {
  const rules = ["mon-fri 08:00-18:00 50MiB", "sat,sun 00:00-00:00 unlimited", "60MiB"];
  const settings = ["--every", "2s", "--priority", "high", "--throttle", ...rules];
  const shown = await succeeds(t, "vm", "set", guest.name, ...settings);
  t.match(shown, /every 2.0 s/);
  t.match(
    shown,
    "mon,tue,wed,thu,fri 08:00-18:00 50.0 MiB/s; sat,sun 00:00-00:00 unlimited; else 60",
  );
  const host = ["--throttle", "80MiB", "--parallel-segments", "3", "--parallel-cycles", "5"];
  t.match(await succeeds(t, "host", "transfers", ...host), "3 segments, 5 cycles, 4 copies");
  const before = (await relationship()).settings;
  await pair.primary.stop("SIGKILL");
  await pair.primary.start();
  t.same((await relationship()).settings, before);
  t.match(before, { intervalMs: 2000, priority: "high", throttle: { bytesPerSecond: 60 << 20 } });
  t.match(await succeeds(t, "host", "transfers"), /80.0 MiB\/s\nAt once: 3 segments, 5 cycles/);
  guest.disconnect();
  guest.uri = (await pair.primary.vm(guest.name)).disks[0]?.uri ?? "";
  await guest.write(8192, randomBytes(8192));
  t.ok(await isReplicated());
});

void t.test("continuous, and refusals", async (t) => {
  const set = ["vm", "set", guest.name];
  await succeeds(t, ...set, "--every", "continuous");
  t.equal((await relationship()).settings.isContinuous, true);
  await guest.write(4096, randomBytes(4096));
  t.ok(await isReplicated());
  await fails(t, "INVALID_ARGUMENT", ...set);
  await fails(t, "INVALID_ARGUMENT", ...set, "--every", "25h");
  await fails(t, "INVALID_ARGUMENT", ...set, "--priority", "urgent");
  await fails(t, "INVALID_ARGUMENT", ...set, "--throttle", "now and then");
  await fails(t, "INVALID_ARGUMENT", ...set, "--throttle", "mon 8-18 1MiB");
  await fails(t, "INVALID_ARGUMENT", ...set, "--throttle", "100");
  await fails(t, "INVALID_ARGUMENT", ...set, "--resync", "never");
  await fails(t, "INVALID_ARGUMENT", ...set, "--replica", "https://a:1/path");
  await fails(t, "INVALID_ARGUMENT", "host", "transfers", "--parallel-segments", "0");
  await fails(t, "CONFLICT", "vm", "resync", guest.name);
  await succeeds(t, ...set, "--every", "1s");
});

void t.test("another way to the replica, and back", async (t) => {
  const proxy = await ConnectProxy.start();
  t.teardown(() => proxy.close());
  const set = ["vm", "set", guest.name, "--proxy"];
  await succeeds(t, ...set, proxy.url);
  await guest.write(0, randomBytes(4096));
  t.ok(await isReplicated());
  t.ok(proxy.tunnels.length > 0, "it went through the proxy");
  await succeeds(t, ...set, "none");
  const { settings } = await relationship();
  t.equal(settings.proxyUrl, undefined);
  const before = proxy.tunnels.length;
  await guest.write(4096, randomBytes(4096));
  t.ok(await isReplicated());
  t.equal(proxy.tunnels.length, before);
  await fails(t, "INVALID_ARGUMENT", ...set, "elsewhere");
});

void t.test("a resynchronization waits for its order", async (t) => {
  await succeeds(t, "vm", "set", guest.name, "--resync", "manual");
  t.ok(await isReplicated());
  guest.disconnect();
  await pair.primary.stop();
  const behind = randomBytes(4096);
  await using file = await open(guest.diskPath, "r+");
  await file.write(behind, 0, behind.length, 1 << 20);
  await file.sync();
  behind.copy(guest.content, 1 << 20);
  await pair.primary.start();
  await inState("resynchronization-required");
  const { health, healthReasons, suspectBytes } = await relationship();
  t.equal(health, "critical");
  t.match(healthReasons[0], /wait for an administrator/);
  t.ok(suspectBytes > 0);
  const before = await pointsOf(pair.replica, guest.name);
  t.match(await succeeds(t, "vm", "resync", guest.name), /is compared with its replica/);
  await inState("replicating");
  t.ok(await isReplicated());
  t.ok((await pointsOf(pair.replica, guest.name)).length > before.length);
});
