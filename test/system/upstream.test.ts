/**
 * The filter in front of other people's servers: qcow2 and VHDX behind
 * qemu-storage-daemon, nbdkit with its filters. What foreign clients write through
 * the filter is what the image holds afterwards (read past the filter, by
 * qemu-img), and exactly what changed is marked.
 */
import { randomBytes } from "node:crypto";
import { open, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { PrimaryVms } from "#lib/daemon/primary-vms.js";
import { TrackedDisk } from "#lib/index.js";
import { MemoryStateStore } from "#lib/model/memory-state-store.js";
import { NbdClient } from "../support/nbd-client.js";
import { scratchDirectory, tidemark } from "../support/program.js";
import { skipWithout, succeeds } from "../support/foreign-tools.js";
import { SeededRandom } from "../support/seeded-random.js";
import { nbdkit, storageDaemon, UpstreamProgram } from "../support/upstream-program.js";

const BLOCK = 4096;
const MIB = 1 << 20;
const SIZE = 64 * MIB;
const directory = await scratchDirectory(t);
let fileCount = 0;

function newPath(suffix: string): string {
  fileCount += 1;
  return join(directory, `${fileCount}${suffix}`);
}

async function formattedUpstream(t: Test, format: string) {
  const image = newPath(`.${format}`);
  const socketPath = newPath(".up.sock");
  await succeeds(t, "qemu-img", "create", "-q", "-f", format, image, String(SIZE));
  const command = storageDaemon(socketPath, image, format);
  return { image, upstream: await UpstreamProgram.start(t, socketPath, "disk", command) };
}

async function trackUpstream(uri: string): Promise<TrackedDisk> {
  return TrackedDisk.open({ backing: { kind: "nbd", uri }, bitmapPath: newPath(".tidemark") });
}

/** The blocks that a checkpoint calls changed. */
async function changedBlocks(disk: TrackedDisk, target: string): Promise<Set<number>> {
  await using checkpoint = await disk.checkpoint(target, { drainLimitMs: 5000 });
  const blocks = new Set<number>();
  for (const { offsetBytes, lengthBytes } of checkpoint.disks[0]?.changedExtents() ?? []) {
    for (let at = offsetBytes; at < offsetBytes + lengthBytes; at += BLOCK) blocks.add(at / BLOCK);
  }
  await checkpoint.commit();
  return blocks;
}

function blocksOf(...ranges: readonly (readonly [number, number])[]): Set<number> {
  const blocks = new Set<number>();
  for (const [offset, length] of ranges) {
    for (let at = Math.floor(offset / BLOCK); at * BLOCK < offset + length; at += 1) blocks.add(at);
  }
  return blocks;
}

const sorted = (blocks: Set<number>) => [...blocks].sort((a, b) => a - b);

for (const format of ["qcow2", "vhdx"]) {
  const skip = await skipWithout("qemu-storage-daemon", "qemu-img", "qemu-io", "nbdcopy");
  void t.test(`${format} behind qemu-storage-daemon`, { skip }, async (t) => {
    const { image, upstream } = await formattedUpstream(t, format);
    const disk = await trackUpstream(upstream.uri);
    t.equal(disk.sizeBytes, SIZE);
    await disk.addTarget("replica", "nothing");
    const server = await disk.serve({ socketPath: newPath(".sock") });
    const uri = server.uriOf("");

    const io = [
      "write -P 1 0 64k",
      "write -P 2 10M 1M",
      "write -P 3 33M 5000",
      "write -z 10M 128k",
    ];
    const commands = io.flatMap((command) => ["-c", command]);
    await succeeds(t, "qemu-io", "-f", "raw", ...commands, "-c", "flush", uri);
    const expected = blocksOf([0, 65536], [10 * MIB, MIB], [33 * MIB, 5000]);
    t.same(sorted(await changedBlocks(disk, "replica")), sorted(expected));

    const source = newPath(".raw");
    await writeFile(source, randomBytes(SIZE / 2));
    await truncate(source, SIZE);
    await succeeds(t, "nbdcopy", "--flush", source, uri);
    t.equal((await changedBlocks(disk, "replica")).size, SIZE / BLOCK);
    await succeeds(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", uri, source);
    await disk.close();
    await upstream.kill();
    await succeeds(t, "qemu-img", "compare", "-f", format, "-F", "raw", image, source);
    await succeeds(t, "qemu-img", "check", "-q", "-f", format, image);
  });
}

void t.test(
  "a whole cycle of a qcow2 disk: a first copy, then a delta, make its replica",
  { skip: await skipWithout("qemu-storage-daemon", "qemu-img") },
  async (t) => {
    const { image, upstream } = await formattedUpstream(t, "qcow2");
    const disk = await trackUpstream(upstream.uri);
    const client = await NbdClient.connect(
      (await disk.serve({ socketPath: newPath(".sock") })).uriOf(""),
    );
    await client.write(5 * MIB, randomBytes(3 * MIB));
    const replica = newPath(".replica.raw");
    await writeFile(replica, "");
    await truncate(replica, SIZE);
    await disk.addTarget("replica", "allocated");
    const copied: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      copied.push(await copyChanges(disk, replica, client));
    }
    t.ok((copied[0] ?? SIZE) < SIZE / 4, "the first copy leaves out what is not allocated");
    client.close();
    copied.push(await copyChanges(disk, replica, null));
    await disk.close();
    await upstream.kill();
    await succeeds(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", image, replica);
  },
);

/** One cycle; while its content is read, a guest goes on writing over it. */
async function copyChanges(
  disk: TrackedDisk,
  replica: string,
  guest: NbdClient | null,
): Promise<number> {
  await using checkpoint = await disk.checkpoint("replica", { drainLimitMs: 5000 });
  const file = await open(replica, "r+");
  try {
    let copiedBytes = 0;
    for (const changed of checkpoint.disks) {
      const extents = [...changed.changedExtents()];
      await guest?.write(5 * MIB + 12_288, randomBytes(MIB));
      await guest?.write(40 * MIB, randomBytes(8192));
      for (const { offsetBytes, lengthBytes } of extents) {
        const content = await changed.read(offsetBytes, lengthBytes);
        await file.write(content, 0, content.length, offsetBytes);
        copiedBytes += content.length;
      }
    }
    await checkpoint.commit();
    return copiedBytes;
  } finally {
    await file.close();
  }
}

/** Writes, flushes and reads at random; its model says what it must read. */
async function runGuest(client: NbdClient, model: Buffer, seed: number, steps: number) {
  const random = new SeededRandom(seed);
  for (let step = 0; step < steps; step += 1) {
    const offset = random.below(model.length / 512 - 64) * 512;
    const length = (1 + random.below(64)) * 512;
    const kind = random.below(100);
    if (kind < 60) {
      const content = randomBytes(length);
      await client.write(offset, content);
      content.copy(model, offset);
    } else if (kind < 95) {
      const seen = await client.read(offset, length);
      if (seen.compare(model, offset, offset + length) !== 0) throw new Error("a wrong read");
    } else {
      await client.flush();
    }
  }
}

for (const format of ["raw", "qcow2"]) {
  void t.test(
    `a ${format} upstream that is killed under load costs the guest nothing`,
    { skip: await skipWithout("qemu-storage-daemon", "qemu-img") },
    async (t) => {
      const { image, upstream } = await formattedUpstream(t, format);
      const disk = await trackUpstream(upstream.uri);
      const server = await disk.serve({ socketPath: newPath(".sock") });
      const client = await NbdClient.connect(server.uriOf(""));
      const model = Buffer.alloc(SIZE);
      let isOver = false;
      const killing = (async () => {
        for (let round = 0; round < 5; round += 1) {
          await new Promise((resolve) => setTimeout(resolve, 150));
          await upstream.kill();
          await upstream.start();
        }
        isOver = true;
      })();
      for (let seed = 1; !isOver; seed += 1) await runGuest(client, model, seed, 50);
      await killing;
      await client.flush();
      client.close();
      const status = disk.upstream();
      t.ok((status?.lossCount ?? 0) >= 4, `it was lost ${status?.lossCount} times`);
      t.ok((status?.replayedCount ?? 0) > 0, "and was told again what it had answered");
      await disk.close();
      await upstream.kill();
      const expected = newPath(".raw");
      await writeFile(expected, model);
      await succeeds(t, "qemu-img", "compare", "-f", format, "-F", "raw", image, expected);
    },
  );
}

void t.test("nbdkit", { skip: await skipWithout("nbdkit", "nbdcopy", "qemu-img") }, async (t) => {
  const backing = newPath(".raw");
  await writeFile(backing, "");
  await truncate(backing, SIZE);
  const kinds: Record<string, readonly string[]> = {
    memory: ["memory", String(SIZE)],
    file: ["file", backing],
    "a slow one": ["--filter=delay", "memory", String(SIZE), "rdelay=2ms", "wdelay=2ms"],
    "coarse blocks": [
      "--filter=blocksize-policy",
      "memory",
      String(SIZE),
      "blocksize-minimum=4096",
      "blocksize-preferred=64K",
      "blocksize-maximum=1M",
      "blocksize-error-policy=error",
    ],
    "no zeroing": ["--filter=nozero", "memory", String(SIZE)],
    "FUA by flushing": ["--filter=fua", "memory", String(SIZE), "fuamode=emulate"],
    "one connection": ["--filter=multi-conn", "memory", String(SIZE), "multi-conn-mode=disable"],
  };
  for (const [name, args] of Object.entries(kinds)) {
    const socketPath = newPath(".up.sock");
    const upstream = await UpstreamProgram.start(t, socketPath, "", nbdkit(socketPath, ...args));
    await using disk = await trackUpstream(upstream.uri);
    const expected = name === "one connection" ? 1 : 4;
    t.equal(disk.upstream()?.connectionCount, expected, `${name}: connections`);
    await disk.addTarget("replica", "nothing");
    const server = await disk.serve({ socketPath: newPath(".sock") });
    const source = newPath(".raw");
    await writeFile(source, randomBytes(8 * MIB));
    await truncate(source, SIZE);
    await succeeds(t, "nbdcopy", "--flush", source, server.uriOf(""));
    const compare = ["compare", "-f", "raw", "-F", "raw"];
    await succeeds(t, "qemu-img", ...compare, server.uriOf(""), source);
    await succeeds(t, "qemu-img", ...compare, upstream.uri, source);
    t.ok((await changedBlocks(disk, "replica")).size >= (8 * MIB) / BLOCK, name);
  }
});

void t.test(
  "an upstream's error is the guest's, and the block stays marked",
  { skip: await skipWithout("nbdkit") },
  async (t) => {
    const socketPath = newPath(".up.sock");
    const command = nbdkit(
      socketPath,
      "--filter=error",
      "memory",
      String(SIZE),
      "error-pwrite=ENOSPC",
      "error-pwrite-rate=100%",
    );
    const upstream = await UpstreamProgram.start(t, socketPath, "", command);
    await using disk = await trackUpstream(upstream.uri);
    await disk.addTarget("replica", "nothing");
    await t.rejects(disk.write(8 * BLOCK, Buffer.alloc(BLOCK)), { code: "NO_SPACE" });
    t.same(sorted(await changedBlocks(disk, "replica")), [8]);
  },
);

void t.test(
  "a disk closes while its upstream is away, and its guest sees no error",
  { skip: await skipWithout("nbdkit") },
  async (t) => {
    const socketPath = newPath(".up.sock");
    const command = nbdkit(socketPath, "memory", String(SIZE));
    const upstream = await UpstreamProgram.start(t, socketPath, "", command);
    const backing = { kind: "nbd", uri: upstream.uri, reconnectLimitMs: 0 } as const;
    const disk = await TrackedDisk.open({ backing, bitmapPath: newPath(".tidemark") });
    const server = await disk.serve({ socketPath: newPath(".sock") });
    const client = await NbdClient.connect(server.uriOf(""));
    await upstream.kill();
    const write = client.write(0, Buffer.alloc(BLOCK));
    await t.rejects(Promise.all([write, disk.close()]), /closed the connection/);
    await disk.close();
  },
);

void t.test("backings that cannot be opened say why", async (t) => {
  const bitmapPath = newPath(".tidemark");
  const opening = (uri: string) =>
    TrackedDisk.open({ backing: { kind: "nbd", uri }, bitmapPath, granularityBytes: BLOCK });
  await t.rejects(opening("nbd+unix:///x"), { code: "INVALID_ARGUMENT", message: /socket=PATH/ });
  await t.rejects(opening("nbds://host/x"), { code: "UNSUPPORTED", message: /TLS/ });
  const missing = `nbd+unix:///x?socket=${directory}/nobody.sock`;
  await t.rejects(opening(missing), { code: "NOT_FOUND", message: /nobody\.sock/ });
  await t.rejects(TrackedDisk.open({ path: "nbd://127.0.0.1/x" }), {
    code: "INVALID_ARGUMENT",
    message: /its bitmap needs a file of its own/,
  });
  await t.rejects(TrackedDisk.open({}), { code: "INVALID_ARGUMENT" });
  await t.rejects(TrackedDisk.open({ backing: { kind: "memory", sizeBytes: 0.5 }, bitmapPath }), {
    code: "INVALID_ARGUMENT",
  });
});

void t.test("a disk in memory is tracked in a file", async (t) => {
  await using disk = await TrackedDisk.open({
    backing: { kind: "memory", sizeBytes: MIB },
    bitmapPath: newPath(".tidemark"),
  });
  t.equal(disk.upstream(), null);
  await disk.addTarget("replica", "nothing");
  await disk.write(BLOCK, Buffer.alloc(BLOCK, 1));
  t.same(sorted(await changedBlocks(disk, "replica")), [1]);
});

void t.test("`track` takes a URI, and then a bitmap's path", async (t) => {
  const outcome = await tidemark("track", "--disk", "nbd://127.0.0.1:1/x", "--socket", "/s");
  t.equal(outcome.exitCode, 1);
  t.match(outcome.stderr, /--bitmap/);
});

void t.test(
  "a VM with a disk behind a URI is served, and found again with its bitmap",
  { skip: await skipWithout("nbdkit") },
  async (t) => {
    const socketPath = newPath(".up.sock");
    const command = nbdkit(socketPath, "memory", String(SIZE));
    const upstream = await UpstreamProgram.start(t, socketPath, "", command);
    const store = new MemoryStateStore();
    const at = newPath("");
    const start = async () => {
      const vms = new PrimaryVms({
        store,
        socketDirectory: `${at}.n`,
        spillDirectory: `${at}.s`,
        bitmapDirectory: `${at}.b`,
        durability: "power-safe",
        capture: { memoryBytes: MIB, spillBytes: MIB },
        onNotice: (message) => t.fail(message),
        openPromoted: () => Promise.reject(new Error("nothing was failed over")),
      });
      await vms.start();
      return vms;
    };
    const first = await start();
    const added = await first.add({
      name: "web",
      disks: [{ name: "root", path: upstream.uri }],
    });
    t.match(added.definition.disks[0], { name: "root", path: upstream.uri });
    await first.close();
    const again = await start();
    const served = await again.served(added.definition.vmId);
    t.equal(served.disks[0]?.openedClean, true);
    t.equal(served.disks[0]?.upstream()?.isConnected, true);
    await again.close();
  },
);
