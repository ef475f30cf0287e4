/** First copies on a medium and from an existing disk, over real hosts and their command line. */
import { createHash, randomBytes } from "node:crypto";
import { copyFile, mkdir, open, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { VmStatus } from "#lib/management/schemas.js";
import { createCa } from "#lib/security/pki.js";
import { CountingProxy } from "../support/counting-proxy.js";
import { HostProcess } from "../support/host-process.js";
import { contentOfPoint, eventually, Guest, LoopbackHost } from "../support/loopback-host.js";
import { run, scratchDirectory, tidemark } from "../support/program.js";

const DISK_BYTES = 16 << 20;
const BLOCK = 4096;

t.setTimeout(300_000);

interface Hosts {
  readonly directory: string;
  readonly primary: HostProcess;
  readonly replica: HostProcess;
  readonly passphraseFile: string;
  readonly media: string;
}

async function startHosts(t: Test): Promise<Hosts> {
  const directory = await scratchDirectory(t);
  const caDirectory = join(directory, "ca");
  await createCa(caDirectory);
  const replica = await HostProcess.create(directory, { name: "r", caDirectory, isReplica: true });
  const primary = await HostProcess.create(directory, { name: "p", caDirectory, isReplica: false });
  t.teardown(async () => {
    await primary.kill();
    await replica.kill();
  });
  const [passphraseFile, media] = [join(directory, "passphrase"), join(directory, "media")];
  await writeFile(passphraseFile, "a long one, of several words\n");
  await mkdir(media);
  await replica.start();
  return { directory, primary, replica, passphraseFile, media };
}

async function succeeds<T>(t: Test, host: HostProcess, ...args: readonly string[]): Promise<T> {
  const { exitCode, stdout, stderr } = await tidemark("--dir", host.directory, "--json", ...args);
  t.same([exitCode, stderr], [0, ""], args.join(" "));
  return JSON.parse(stdout) as T;
}

async function codeOf(host: HostProcess, ...args: readonly string[]): Promise<string> {
  const { exitCode, stderr } = await tidemark("--dir", host.directory, "--json", ...args);
  if (exitCode === 0) return "done";
  return (JSON.parse(stderr) as { error: { code: string } }).error.code;
}

function statusOf(host: HostProcess, vm: string): Promise<VmStatus> {
  return host.api.call("vmStatus", {}, { vm });
}

async function waitsFor(host: HostProcess, vm: string, what: "import" | "seed"): Promise<VmStatus> {
  return eventually(`${vm} to wait for ${what}`, async () => {
    const status = await statusOf(host, vm).catch(() => null);
    return status?.relationship?.firstCopy?.waitsFor === what && status;
  });
}

/** The newest point, after cycles that began from now on, is what the guest wrote. */
async function requireEqual(t: Test, { primary, replica }: Hosts, guest: Guest): Promise<void> {
  await guest.flush();
  const sinceMs = Date.now();
  await eventually("two cycles", async () => {
    const { relationship } = await statusOf(primary, guest.name);
    const last = relationship?.lastCycle;
    return relationship?.state === "replicating" && (last?.startedAtMs ?? 0) > sinceMs;
  });
  const host = LoopbackHost.at(t, replica.directory, null);
  const content = await contentOfPoint(host, guest.name);
  t.ok(content.equals(guest.content), "the newest point is byte for byte what the guest wrote");
}

function enabling(guest: Guest, replicaUrl: string): string[] {
  const place = ["--disk", guest.diskPath, "--replica", replicaUrl];
  return ["vm", "enable", guest.name, ...place, "--every", "1s"];
}

function ontoMedium(media: string, ...protection: readonly string[]): string[] {
  return ["--initial", "media", "--out", media, ...protection];
}

/** Random blocks until it is stopped, through whatever interrupts it. */
function load(guest: Guest): { stop(): Promise<void> } {
  let isStopped = false;
  const running = (async () => {
    while (!isStopped) {
      const block = Math.floor(Math.random() * (DISK_BYTES / BLOCK));
      const data = randomBytes(BLOCK);
      // What was not answered may be there or not: written again until it is.
      for (let isDone = false; !isDone; ) {
        isDone = await guest.write(block * BLOCK, data).then(
          () => true,
          () => false,
        );
        if (isDone) continue;
        guest.disconnect();
        data.copy(guest.content, block * BLOCK);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  return {
    stop: async () => {
      isStopped = true;
      await running;
    },
  };
}

void t.test("T35: a first copy by medium under load, its hosts killed on the way", async (t) => {
  const hosts = await startHosts(t);
  const { primary, replica, media, passphraseFile } = hosts;
  const guest = await Guest.make(hosts.directory, "payroll-database", DISK_BYTES);
  await primary.start("media.put:1");
  const vm = await succeeds<VmStatus>(
    t,
    primary,
    ...enabling(guest, replica.peerUrl),
    ...ontoMedium(media, "--passphrase-file", passphraseFile),
  );
  guest.uri = vm.disks[0]?.uri ?? "";
  const writing = load(guest);
  t.equal((await primary.death).signal, "SIGKILL", "in the middle of a file");
  for (const failpoint of ["media.commit:1", "media.manifest:1"]) {
    await primary.start(failpoint);
    t.equal((await primary.death).signal, "SIGKILL", failpoint);
  }
  const [folder = ""] = (await readdir(media)).map((name) => join(media, name));
  await requireKept(t, hosts, guest, folder);
  await requireRefusals(t, hosts, folder);
  await requireImported(t, hosts, guest);
  await writing.stop();
  await requireEqual(t, hosts, guest);
  t.equal((await statusOf(primary, guest.name)).relationship?.firstCopy, null);
  await primary.stop();
  await primary.start();
  t.same(await readdir(join(primary.directory, "media-keys")), [], "its key is forgotten");
  guest.disconnect();
});

/** The export goes on behind what was whole. */
async function requireKept(t: Test, hosts: Hosts, guest: Guest, folder: string): Promise<void> {
  const { primary, replica } = hosts;
  const before = await stat(join(folder, "delta-000001", "delta"));
  t.equal(await codeOf(replica, ...importing(hosts)), "TRUNCATED", "the export has not ended");
  await primary.start();
  const waiting = await waitsFor(primary, guest.name, "import");
  t.equal(waiting.relationship?.state, "initial-replication");
  const after = await stat(join(folder, "delta-000001", "delta"));
  t.same([after.ino, after.mtimeMs], [before.ino, before.mtimeMs], "what was whole was kept");
  const found = await run("grep", ["-rl", guest.name, folder]);
  t.equal(found.exitCode, 1, "the VM's name is nowhere to be read");
  t.same(await readdir(join(primary.directory, "media-keys")), [`${folder.split("_").at(-1)}.key`]);
}

async function requireRefusals(t: Test, hosts: Hosts, folder: string): Promise<void> {
  const { replica, media } = hosts;
  const wrongFile = join(hosts.directory, "wrong");
  await writeFile(wrongFile, "another long one\n");
  const from = ["vm", "import-initial", "--from", media];
  t.equal(await codeOf(replica, ...from, "--passphrase-file", wrongFile), "FORBIDDEN");
  t.equal(await codeOf(replica, ...from), "FORBIDDEN", "without a passphrase");
  await withFlippedBit(join(folder, "delta-000001", "segment-00000000"), async () => {
    t.equal(await codeOf(replica, ...importing(hosts)), "CORRUPT", "a flipped bit");
  });
}

/** By a replica that is killed twice on the way. */
async function requireImported(t: Test, hosts: Hosts, guest: Guest): Promise<void> {
  const { primary, replica } = hosts;
  for (const failpoint of ["import.segment:1", "import.commit:1"]) {
    await replica.kill();
    await replica.start(failpoint);
    t.not(await codeOf(replica, ...importing(hosts)).catch(() => "cut off"), "done");
    t.equal((await replica.death).signal, "SIGKILL", failpoint);
    await replica.start();
    t.same(await replica.api.call("pointList", {}, { vm: guest.name }), [], "no point yet");
  }
  const imported = await succeeds<{ name: string }>(t, replica, ...importing(hosts));
  t.equal(imported.name, guest.name);
  t.equal(await codeOf(replica, ...importing(hosts)), "ALREADY_EXISTS", "twice");
  await eventually("cycles under load", async () => {
    const { relationship } = await statusOf(primary, guest.name);
    return (relationship?.cycleCount ?? 0) > 2;
  });
}

function importing({ media, passphraseFile }: Hosts): string[] {
  return ["vm", "import-initial", "--from", media, "--passphrase-file", passphraseFile];
}

async function withFlippedBit(path: string, work: () => Promise<void>): Promise<void> {
  const whole = await readFile(path);
  const damaged = Buffer.from(whole);
  damaged.writeUInt8(damaged.readUInt8(damaged.length >> 1) ^ 4, damaged.length >> 1);
  await writeFile(path, damaged);
  await work();
  await writeFile(path, whole);
}

void t.test(
  "a medium for the replica's certificate needs no passphrase; one may be given up",
  async (t) => {
    const hosts = await startHosts(t);
    const { primary, replica, media } = hosts;
    await primary.start();
    const guest = await Guest.make(hosts.directory, "vm2", DISK_BYTES);
    const enable = enabling(guest, "https://127.0.0.1:1");
    const recipient = ["--recipient", join(replica.directory, "pki", "host.crt")];
    t.equal(await codeOf(primary, ...enable, "--initial", "media"), "INVALID_ARGUMENT");
    t.equal(await codeOf(primary, ...enable, "--initial", "pigeon"), "INVALID_ARGUMENT");
    const nowhere = ["--initial", "media", "--out", join(media, "none"), ...recipient];
    t.equal(await codeOf(primary, ...enable, ...nowhere), "NOT_FOUND");
    const vm = await succeeds<VmStatus>(
      t,
      primary,
      ...enabling(guest, replica.peerUrl),
      ...ontoMedium(media, ...recipient),
    );
    guest.uri = vm.disks[0]?.uri ?? "";
    await waitsFor(primary, guest.name, "import");
    await succeeds(t, primary, "vm", "export-initial", guest.name, "--out", media, ...recipient);
    const second = await waitsFor(primary, guest.name, "import");
    const folder = second.relationship?.firstCopy?.directory ?? "";
    t.equal((await readdir(media)).length, 2, "another medium");
    t.equal(
      await codeOf(replica, "vm", "import-initial", "--from", media),
      "INVALID_ARGUMENT",
      "which?",
    );
    await guest.write(0, randomBytes(3 * BLOCK));
    await succeeds(t, replica, "vm", "import-initial", "--from", folder);
    await requireEqual(t, hosts, guest);
    const late = ["vm", "export-initial", guest.name, "--out", media, ...recipient];
    t.equal(await codeOf(primary, ...late), "CONFLICT", "there is a point");
    t.equal((await readdir(media)).length, 2, "and no third medium");
    guest.disconnect();
  },
);

void t.test("from an existing disk that differs in 1 %, about 1 % travels", async (t) => {
  const hosts = await startHosts(t);
  const { primary, replica } = hosts;
  await primary.start();
  const proxy = await CountingProxy.start(replica.peerPort);
  t.teardown(() => proxy.close());
  const guest = await Guest.make(hosts.directory, "vm3", DISK_BYTES);
  const seed = await olderCopyOf(guest, join(hosts.directory, "restored.raw"));
  const sumBefore = await sumOf(seed);
  const vm = await succeeds<VmStatus>(
    t,
    primary,
    ...enabling(guest, `https://127.0.0.1:${proxy.port}`),
    "--initial",
    "existing",
  );
  guest.uri = vm.disks[0]?.uri ?? "";
  await waitsFor(primary, guest.name, "seed");
  await eventually("the replica to know the VM", async () =>
    statusOf(replica, guest.name).catch(() => null),
  );
  const seeding = (disk: string) => codeOf(replica, "vm", "seed", guest.name, "--disk", disk);
  t.equal(await seeding(`vdz=${seed}`), "NOT_FOUND", "no such disk");
  t.equal(await seeding(`vda=${seed}.none`), "NOT_FOUND", "no such file");
  t.equal(await seeding(seed), "INVALID_ARGUMENT", "of which disk?");
  const bytesBefore = proxy.bytes;
  await succeeds(t, replica, "vm", "seed", guest.name, "--disk", `vda=${seed}`);
  await eventually("the first point", async () => {
    const { relationship } = await statusOf(primary, guest.name);
    return relationship?.state === "replicating";
  });
  const share = (proxy.bytes - bytesBefore) / DISK_BYTES;
  t.comment(`${(share * 100).toFixed(2)} % of the disk on the wire, both ways`);
  t.ok(share > 0.0095 && share < 0.03, "the difference travelled, and little else");
  t.not(await seeding(`vda=${seed}`), "done", "too late");
  await guest.write(5 * BLOCK, randomBytes(BLOCK));
  await requireEqual(t, hosts, guest);
  t.equal(await sumOf(seed), sumBefore, "the existing disk is as it was");
  guest.disconnect();
});

/** From which 1 % of the disk differs. */
async function olderCopyOf(guest: Guest, path: string): Promise<string> {
  randomBytes(DISK_BYTES).copy(guest.content);
  await writeFile(guest.diskPath, guest.content);
  await copyFile(guest.diskPath, path);
  await changeBlocks(guest, DISK_BYTES / BLOCK / 100);
  return path;
}

/** Spread over the disk, while it is nobody's. */
async function changeBlocks(guest: Guest, count: number): Promise<void> {
  await using disk = await open(guest.diskPath, "r+");
  for (let index = 0; index < count; index += 1) {
    const at = Math.floor((index + 0.5) * (DISK_BYTES / BLOCK / count)) * BLOCK;
    const data = randomBytes(BLOCK);
    await disk.write(data, 0, BLOCK, at);
    data.copy(guest.content, at);
  }
}

async function sumOf(path: string): Promise<string> {
  const { mtimeMs } = await stat(path);
  return `${mtimeMs} ${createHash("sha256")
    .update(await readFile(path))
    .digest("hex")}`;
}
