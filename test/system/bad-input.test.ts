/**
 * What an administrator, a peer or a disk gets wrong: one clear sentence, no
 * byte lost, and the service still answers and goes on when it is put right.
 */
import { copyFile, mkdir, readdir, readFile, rename, rm, stat, truncate } from "node:fs/promises";
import { createServer, connect as connectPlain } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import t, { type Test } from "tap";
import { createCa, issueCertificate } from "#lib/security/pki.js";
import { committedLayers } from "../support/committed-layers.js";
import {
  contentOfPoint,
  fillUp,
  Guest,
  lastErrorOf,
  LoopbackHost,
  pointsOf,
  replicated,
  startPair,
} from "../support/loopback-host.js";
import { missingTool, RunningProgram, scratchDirectory, tidemark } from "../support/program.js";

const MIB = 1 << 20;
const directory = await scratchDirectory(t);
const pair = await startPair(t, directory);
const { primary, replica, replicaUrl } = pair;
const isRoot = process.getuid?.() === 0;
const noNamespaces = !isRoot
  ? "a file system of its own needs root"
  : (await missingTool("unshare", "mount")) !== null
    ? "unshare or mount is not installed"
    : false;

/** One sentence that says what could not be done, and nothing of how we work inside. */
function isOneSentence(t: Test, message: string): void {
  t.match(message, /^Cannot [^\n]+\.$/, "what could not be done");
  t.notMatch(message.slice(6), /Cannot /, "said once");
  t.notMatch(message, /\. [A-Z]/, "one sentence");
}

async function refused(t: Test, call: Promise<unknown>, code: RegExp): Promise<string> {
  const thrown = await call.then(
    () => null,
    (error: unknown) => error as { code: string; message: string },
  );
  if (thrown === null) {
    t.fail(`it was not refused (${String(code)})`);
    return "";
  }
  t.match(thrown.code, code, thrown.message);
  isOneSentence(t, thrown.message);
  return thrown.message;
}

async function refusedProgram(t: Test, args: readonly string[], code: RegExp): Promise<void> {
  const { exitCode, stderr } = await tidemark("--json", ...args);
  t.equal(exitCode, 1);
  t.equal(stderr.trim().split("\n").length, 1, stderr);
  const { error } = JSON.parse(stderr) as { error: { code: string; message: string } };
  t.match(error.code, code, error.message);
  isOneSentence(t, error.message);
}

async function answers(t: Test): Promise<void> {
  for (const host of [primary, replica]) {
    t.ok((await host.api.call("hostStatus", {})).processId, "the service answers");
  }
}

async function isEqualAtHead(t: Test, guest: Guest): Promise<void> {
  await replicated(primary, guest.name);
  const held = await contentOfPoint(replica, guest.name);
  t.ok(held.equals(guest.content), `the replica holds what the guest of ${guest.name} wrote`);
}

// This one is replicated all the while: nothing below may harm it.
const bystander = await Guest.make(directory, "bystander");
await bystander.enable(primary, replicaUrl);
await isEqualAtHead(t, bystander);

void t.test("a disk that cannot be opened", async (t) => {
  const enable = (path: string) =>
    primary.api.call("vmEnable", { name: "wrong", disks: [{ path }], replicaUrl });
  const missing = join(directory, "nowhere.raw");
  t.match(await refused(t, enable(missing), /^NOT_FOUND$/), missing);
  await mkdir(join(directory, "folder"));
  t.match(await refused(t, enable(join(directory, "folder")), /./), "folder");
  const good = await Guest.make(directory, "half");
  const disks = [{ path: good.diskPath }, { path: missing }];
  await refused(t, primary.api.call("vmEnable", { name: "wrong", disks, replicaUrl }), /NOT_FOUND/);
  await refusedProgram(t, ["track", "--disk", missing, "--socket", `${missing}.sock`], /NOT_FOUND/);
  const names = (await primary.api.call("vmList", {})).map(({ name }) => name);
  t.same(names, ["bystander"], "nothing is left of it");
  await good.enable(primary, replicaUrl);
  await isEqualAtHead(t, good);
  await primary.api.call("vmRemove", {}, { vm: good.name });
  await answers(t);
});

void t.test("a bitmap of another disk", async (t) => {
  const guest = await Guest.make(directory, "mixed", 2 * MIB);
  await guest.enable(primary, replicaUrl);
  await isEqualAtHead(t, guest);
  const bitmap = `${guest.diskPath}.tidemark`;
  const larger = await Guest.make(directory, "larger", 3 * MIB);
  await copyFile(`${bystander.diskPath}.tidemark`, `${larger.diskPath}.tidemark`);
  await refused(t, larger.enable(primary, replicaUrl), /FOREIGN/);
  t.equal((await stat(larger.diskPath)).size, 3 * MIB);

  guest.disconnect();
  bystander.disconnect();
  await primary.stop();
  await rename(bitmap, `${bitmap}.own`);
  await copyFile(`${bystander.diskPath}.tidemark`, bitmap);
  await primary.start();
  const error = await lastErrorOf(primary, guest.name, "FOREIGN");
  isOneSentence(t, error.message);
  t.match(error.message, bitmap);
  await answers(t);
  await isEqualAtHead(t, bystander);

  await rename(`${bitmap}.own`, bitmap);
  await primary.api.call("vmResume", {}, { vm: guest.name });
  await isEqualAtHead(t, guest);
  await primary.api.call("vmRemove", {}, { vm: guest.name });
});

void t.test("a socket in use", async (t) => {
  const host = ["--dir", primary.paths.directory, "host", "start"];
  await refusedProgram(t, host, /^IN_USE$/);
  const guest = await Guest.make(directory, "shared");
  const socketPath = join(directory, "s.sock");
  const track = ["track", "--disk", guest.diskPath, "--socket", socketPath];
  const first = await RunningProgram.start(t, track, /Ctrl-C/);
  const other = ["track", "--disk", (await Guest.make(directory, "other")).diskPath];
  await refusedProgram(t, [...other, "--socket", socketPath], /^IN_USE$/);
  await refusedProgram(t, [...other, "--listen", replicaUrl.slice("https://".length)], /^IN_USE$/);
  await refusedProgram(t, [...track.slice(0, -1), join(directory, "t.sock")], /^IN_USE$/);
  guest.uri = `nbd+unix:///?socket=${socketPath}`;
  await guest.write(0, Buffer.alloc(4096, 7));
  guest.disconnect();
  t.equal((await first.stop()).exitCode, 0, "the one that has it goes on");

  const taken = createServer().listen(join(primary.paths.nbdSockets, "taken.sock"));
  t.teardown(() => void taken.close());
  const blocked = await Guest.make(directory, "taken");
  await refused(t, blocked.enable(primary, replicaUrl), /^IN_USE$/);
  await answers(t);
});

void t.test("two hosts on one port", async (t) => {
  const second = await LoopbackHost.prepare(t, join(directory, "r2"), {
    caDirectory: pair.caDirectory,
    isReplica: true,
    port: Number(replicaUrl.split(":").at(-1)),
  });
  await refusedProgram(t, ["--dir", second.paths.directory, "host", "start"], /^IN_USE$/);
  await isEqualAtHead(t, bystander);
});

void t.test("a certificate that does not match", async (t) => {
  const guest = await Guest.make(directory, "stranger");
  const strangers = join(directory, "other-ca");
  await createCa(strangers);
  const stranger = await LoopbackHost.prepare(t, join(directory, "x"), { caDirectory: strangers });
  await stranger.start();
  await guest.enable(stranger, replicaUrl);
  const error = await lastErrorOf(stranger, guest.name, "UNAUTHENTICATED");
  isOneSentence(t, error.message);
  t.ok(error.hint);
  await guest.write(MIB, Buffer.alloc(8192, 3));
  await stranger.stop();
  await refusedProgram(t, ["--dir", await withKeyOfAnother(stranger), "host", "start"], /FOREIGN/);

  // The right CA issues it one: replication begins where it was refused.
  for (const file of await readdir(stranger.paths.pki)) await rm(join(stranger.paths.pki, file));
  await issueCertificate(pair.caDirectory, ["127.0.0.1"], { outputDirectory: stranger.paths.pki });
  await stranger.start();
  await replicated(stranger, guest.name);
  t.ok((await contentOfPoint(replica, guest.name)).equals(guest.content));
  await stranger.stop();
  await isEqualAtHead(t, bystander);
});

async function withKeyOfAnother(host: LoopbackHost): Promise<string> {
  await rename(join(host.paths.pki, "host.key"), join(host.paths.pki, "host.key.own"));
  await copyFile(join(primary.paths.pki, "host.key"), join(host.paths.pki, "host.key"));
  return host.paths.directory;
}

void t.test("a certificate of another name", async (t) => {
  const named = await LoopbackHost.prepare(t, join(directory, "n"), {
    caDirectory: pair.caDirectory,
    isReplica: true,
    certificateNames: ["replica.example"],
  });
  await named.start();
  const { peerAddress } = await named.api.call("hostStatus", {});
  const guest = await Guest.make(directory, "misnamed");
  await guest.enable(primary, `https://${peerAddress ?? ""}`);
  const error = await lastErrorOf(primary, guest.name, "UNAUTHENTICATED");
  isOneSentence(t, error.message);
  t.match(error.message, /altnames/);
  await primary.api.call("vmRemove", {}, { vm: guest.name });
  await named.stop();
  await answers(t);
});

void t.test("a replica that is down", async (t) => {
  await replica.stop("SIGKILL");
  const guest = await Guest.make(directory, "early");
  await guest.enable(primary, replicaUrl);
  await bystander.write(MIB, Buffer.alloc(64 << 10, 0x5a));
  for (const { name } of [guest, bystander]) {
    const error = await lastErrorOf(primary, name, "UNREACHABLE");
    isOneSentence(t, error.message);
    t.equal(error.retryable, true);
  }
  await bystander.write(3 * MIB, Buffer.alloc(64 << 10, 0xa5));
  await replica.start();
  await isEqualAtHead(t, bystander);
  await isEqualAtHead(t, guest);
  await primary.api.call("vmRemove", {}, { vm: guest.name });
});

void t.test("garbage on the NBD and HTTPS ports", async (t) => {
  const [host = "", port = ""] = replicaUrl.slice("https://".length).split(":");
  const socketPath = new URL(bystander.uri).searchParams.get("socket") ?? "";
  const handshake = Buffer.from("\0\0\0\x03IHAVEOPT\0\0\0\x07\xff\xff\xff\xff", "latin1");
  const requests = Buffer.from(`${"\x25\x60\x95\x13".repeat(700)}`, "latin1");
  const random = await readFile(bystander.diskPath).then((data) => data.subarray(0, 100_000));
  for (const bytes of [random, handshake, requests, Buffer.from("GET / HTTP/1.1\r\n\r\n")]) {
    await throwAt({ path: socketPath }, bytes);
    await throwAt({ host, port: Number(port) }, bytes);
  }
  await throwAtTls(host, Number(port), random);
  await bystander.write(2 * MIB, Buffer.alloc(4096, 9));
  await isEqualAtHead(t, bystander);
  await answers(t);
});

/** Whatever the other side does with it; it is gone in the end. */
async function throwAt(
  place: { path: string } | { host: string; port: number },
  bytes: Buffer,
): Promise<void> {
  const socket = connectPlain(place);
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.on("error", () => undefined).resume();
  socket.write(bytes, () => setTimeout(() => socket.end(), 100));
  await Promise.race([closed, sleep(2000)]);
  socket.destroy();
}

/** Behind a handshake with a certificate of ours, which gets further in. */
async function throwAtTls(host: string, port: number, bytes: Buffer): Promise<void> {
  const [cert, key, ca] = await Promise.all(
    ["host.crt", "host.key", "ca.crt"].map((file) => readFile(join(primary.paths.pki, file))),
  );
  const socket = connectTls({ host, port, cert, key, ca, minVersion: "TLSv1.3" });
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.on("error", () => undefined).resume();
  socket.write(bytes);
  await Promise.race([closed, sleep(2000)]);
  socket.destroy();
}

void t.test("a truncated layer file", async (t) => {
  const guest = await Guest.make(directory, "cut");
  await guest.enable(primary, replicaUrl);
  await isEqualAtHead(t, guest);
  const before = Buffer.from(guest.content);
  const [older] = (await pointsOf(replica, guest.name)).slice(-1);
  const known = new Set(await layersOf(guest.name));
  await guest.write(0, Buffer.alloc(128 << 10, 0x77));
  await isEqualAtHead(t, guest);
  await primary.api.call("vmSuspend", {}, { vm: guest.name });
  const layer = (await layersOf(guest.name)).find((path) => !known.has(path)) ?? "";
  await copyFile(layer, `${layer}.kept`);
  await truncate(layer, (await stat(layer)).size - 4096);

  const open = (pointId?: string) => contentOfPoint(replica, guest.name, pointId);
  await refused(t, open(), /^(TRUNCATED|CORRUPT)$/);
  t.ok((await open(older?.pointId)).equals(before), "the point before it is whole");
  await replica.stop();
  await replica.start();
  await answers(t);
  await primary.api.call("vmResume", {}, { vm: guest.name });
  const error = await lastErrorOf(primary, guest.name, /^(TRUNCATED|CORRUPT)$/);
  isOneSentence(t, error.message);
  t.ok((await open(older?.pointId)).equals(before), "and can be opened after a restart");
  await isEqualAtHead(t, bystander);

  await replica.stop();
  await rename(`${layer}.kept`, layer);
  await replica.start();
  await guest.write(MIB, Buffer.alloc(4096, 0x78));
  await primary.api.call("vmResume", {}, { vm: guest.name });
  await isEqualAtHead(t, guest);
});

async function layersOf(vm: string): Promise<string[]> {
  const { vmId } = await primary.vm(vm);
  const vms = join(replica.paths.replicaRoot("replica"), "vms");
  return (await committedLayers(vms)).filter((path) => path.startsWith(join(vms, vmId)));
}

void t.test("a full disk at the replica", { skip: noNamespaces }, async (t) => {
  const full = await LoopbackHost.prepare(t, join(directory, "f"), {
    caDirectory: pair.caDirectory,
    isReplica: true,
  });
  const root = full.paths.replicaRoot("replica");
  await mkdir(root);
  await full.start({ inMountNamespace: `mount -t tmpfs -o size=12m tmpfs '${root}'` });
  const url = await full.keepPort();
  const guest = await Guest.make(directory, "big", 8 * MIB);
  await guest.enable(primary, url);
  await replicated(primary, guest.name);
  const before = Buffer.from(guest.content);
  const points = await pointsOf(full, guest.name);
  // What only that process sees of its file system is reached through /proc.
  const ballast = `/proc/${full.process?.processId ?? 0}/root${root}/ballast`;
  await fillUp(ballast);
  await guest.write(0, await readFile(process.execPath).then((data) => data.subarray(0, 2 * MIB)));
  const error = await lastErrorOf(primary, guest.name, "NO_SPACE");
  isOneSentence(t, error.message);
  t.ok((await contentOfPoint(full, guest.name, points.at(-1)?.pointId)).equals(before));
  t.equal((await full.api.call("hostStatus", {})).vms.length, 1, "the replica answers");
  await isEqualAtHead(t, bystander);

  await rm(ballast);
  await replicated(primary, guest.name);
  t.ok((await contentOfPoint(full, guest.name)).equals(guest.content), "it goes on");
  await primary.api.call("vmRemove", {}, { vm: guest.name });
  await full.stop();
});

void t.test("a full disk at the primary", { skip: noNamespaces }, async (t) => {
  const guest = await Guest.make(directory, "thin", 8 * MIB);
  const { host, inside, diskPath } = await startOnSmallDisk(t, guest);
  const disks = [{ path: diskPath }];
  const request = { name: guest.name, disks, replicaUrl, intervalMs: 1000 };
  const vm = await host.api.call("vmEnable", request);
  const socket = new URL(vm.disks[0]?.uri ?? "").searchParams.get("socket") ?? "";
  guest.uri = `nbd+unix:///vda?socket=/proc/${host.process?.processId ?? 0}/root${socket}`;
  await replicated(host, guest.name);
  await fillUp(join(inside, "ballast"));
  await t.rejects(guest.write(6 * MIB, Buffer.alloc(MIB, 1)), /errno (28|5)/, "the guest is told");
  await guest.write(0, Buffer.alloc(MIB, 2));
  t.ok((await host.api.call("hostStatus", {})).processId, "the service answers");
  const { lastError } = (await host.vm(guest.name)).relationship ?? {};
  if (lastError !== null && lastError !== undefined) isOneSentence(t, lastError.message);

  await rm(join(inside, "ballast"));
  await guest.write(6 * MIB, Buffer.alloc(MIB, 4));
  await replicated(host, guest.name);
  t.ok((await contentOfPoint(replica, guest.name)).equals(guest.content), "it goes on");
  guest.disconnect();
  t.equal((await host.stop())?.exitCode, 0);
});

/** A host whose directory and the guest's disk are on a small file system that only it sees. */
async function startOnSmallDisk(t: Test, guest: Guest) {
  const { caDirectory } = pair;
  const outside = await LoopbackHost.prepare(t, join(directory, "g"), { caDirectory });
  const own = outside.paths.directory;
  const kept = join(directory, "kept");
  await rename(own, kept);
  await mkdir(own);
  const diskPath = join(own, "thin.raw");
  await outside.start({
    inMountNamespace: [
      `mount -t tmpfs -o size=14m tmpfs '${own}'`,
      `cp -a '${kept}/.' '${own}'`,
      `cp --sparse=always '${guest.diskPath}' '${diskPath}'`,
    ].join("\n"),
  });
  const inside = `/proc/${outside.process?.processId ?? 0}/root${own}`;
  return { host: LoopbackHost.at(t, inside, outside.process), inside, diskPath };
}

void t.test("after all of it the hosts end cleanly", async (t) => {
  bystander.disconnect();
  for (const host of [primary, replica]) {
    t.equal((await host.stop())?.exitCode, 0);
    await t.rejects(stat(host.paths.apiSocket), { code: "ENOENT" });
  }
});
