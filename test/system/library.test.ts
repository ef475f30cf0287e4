/** The library as a developer of hypervisor tooling uses it: lifetimes, limits, errors. */
import { randomUUID } from "node:crypto";
import { readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import t, { type Test } from "tap";
import { type Checkpoint, ConsistencyGroup, NbdServer, TrackedDisk } from "#lib/index.js";
import { faultDevice, memoryDevice } from "#lib/testing.js";
import { run, scratchDirectory } from "../support/program.js";

const BLOCK = 4096;
const MIB = 1 << 20;
const directory = await scratchDirectory(t);
let fileCount = 0;

function newPath(): string {
  fileCount += 1;
  return join(directory, `disk-${fileCount}.raw`);
}

async function newDiskFile(sizeBytes = 4 * MIB): Promise<string> {
  const path = newPath();
  await writeFile(path, "");
  await truncate(path, sizeBytes);
  return path;
}

function memoryDisk(sizeBytes = MIB): Promise<TrackedDisk> {
  return TrackedDisk.track(memoryDevice(sizeBytes), { path: newPath() });
}

/** Runs `script` in a process of its own, where the package's own name is known. */
function child(script: string, ...nodeOptions: string[]) {
  const prelude = `
    import { TrackedDisk, NbdServer, ConsistencyGroup } from "tidemark";
    import { memoryDevice, faultDevice } from "tidemark/testing";
    import { Worker } from "node:worker_threads";
    const path = process.argv[1];`;
  return async (path: string) =>
    run(process.execPath, [...nodeOptions, "--input-type=module", "-e", prelude + script, path]);
}

async function endsWell(t: Test, script: string, ...nodeOptions: string[]): Promise<string> {
  const path = await newDiskFile();
  const outcome = await child(script, ...nodeOptions)(path);
  t.same([outcome.exitCode, outcome.signal], [0, null], outcome.stderr);
  t.equal(outcome.stderr, "");
  await using again = await TrackedDisk.open({ path });
  t.equal(again.sizeBytes, 4 * MIB, "nothing holds the disk any more");
  return outcome.stdout;
}

const IN_FLIGHT = `
  const disk = await TrackedDisk.open({ path });
  const data = Buffer.alloc(1 << 20, 7);
  const writes = Array.from({ length: 32 }, (_, i) => disk.write((i % 4) << 20, data));
  for (const write of writes) write.catch(() => undefined);`;

void t.test("a name that no export can have leaves no server behind", async (t) => {
  await using disk = await memoryDisk();
  const socketPath = join(directory, "named.sock");
  const exportName = "x".repeat(4097);
  await t.rejects(disk.serve({ socketPath, exportName }), { code: "INVALID_ARGUMENT" });
  const server = await disk.serve({ socketPath });
  t.equal(server.statistics().connectionsTotal, 0, "the socket's path was free again");
});

void t.test("a process ends while its writes are in flight", async (t) => {
  await endsWell(t, `${IN_FLIGHT} process.exit(0);`);
  await endsWell(t, `${IN_FLIGHT} await writes[3]; process.exit(0);`);
  await endsWell(t, `${IN_FLIGHT} await Promise.all(writes);`);
});

void t.test("a process ends with everything still open", async (t) => {
  await endsWell(
    t,
    `${IN_FLIGHT}
     await disk.addTarget("t", "all");
     await disk.serve({ socketPath: path + ".sock" });
     const checkpoint = await disk.checkpoint("t");
     const reading = checkpoint.disks[0].read(0, 1 << 20).catch(() => undefined);
     checkpoint.delta("t").resume();
     process.exit(0);`,
  );
});

void t.test("a worker is terminated while its writes are in flight", async (t) => {
  const worker = JSON.stringify(`
    import { workerData, parentPort } from "node:worker_threads";
    import { TrackedDisk } from "tidemark";
    const path = workerData;
    ${IN_FLIGHT}
    await disk.addTarget("t", "all");
    const checkpoint = await disk.checkpoint("t");
    checkpoint.delta("t").resume();
    await disk.serve({ socketPath: path + ".sock" });
    parentPort.postMessage("busy");
    setInterval(() => disk.write(0, data).catch(() => undefined), 1);`);
  const said = await endsWell(
    t,
    `for (let round = 0; round < 3; round += 1) {
       const url = new URL("data:text/javascript," + encodeURIComponent(${worker}
         .replace('"tidemark"', JSON.stringify(import.meta.resolve("tidemark")))));
       const worker = new Worker(url, { workerData: path });
       await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
       await worker.terminate();
       const disk = await TrackedDisk.open({ path });
       console.log(disk.targets()[0].pendingBytes);
       await disk.close();
     }`,
  );
  t.same(
    said.trim().split("\n"),
    Array(3).fill(String(4 * MIB)),
    "what it had in flight is pending",
  );
});

void t.test("objects that nobody closed are collected", async (t) => {
  const said = await endsWell(
    t,
    `async function leak() {
       const disk = await TrackedDisk.open({ path });
       await disk.addTarget("t", "all");
       await disk.checkpoint("t");
       const fault = faultDevice(memoryDevice(4096));
       await fault.write(0, Buffer.alloc(4096));
       await NbdServer.start({ host: "127.0.0.1" });
     }
     await leak();
     let opened = null;
     for (let round = 0; round < 50 && opened === null; round += 1) {
       gc();
       await new Promise((resolve) => setTimeout(resolve, 10));
       opened = await TrackedDisk.open({ path }).catch(() => null);
     }
     console.log(opened !== null);
     await opened?.close();
     process.exit(0);`,
    "--expose-gc",
  );
  t.equal(said.trim(), "true", "and give up what they held");
});

void t.test("works in a worker thread", async (t) => {
  const path = await newDiskFile();
  const index = import.meta.resolve("#lib/index.js");
  const code = `
    import { workerData, parentPort } from "node:worker_threads";
    import { TrackedDisk } from ${JSON.stringify(index)};
    const disk = await TrackedDisk.open({ path: workerData });
    await disk.addTarget("t", "nothing");
    await disk.write(8192, Buffer.alloc(4096, 1));
    const checkpoint = await disk.checkpoint("t");
    parentPort.postMessage([...checkpoint.disks[0].changedExtents()]);
    await checkpoint.commit();
    await disk.close();`;
  const url = new URL(`data:text/javascript,${encodeURIComponent(code)}`);
  const worker = new Worker(url, { workerData: path });
  const message = await new Promise((resolve, reject) => {
    worker.once("message", resolve).once("error", reject);
  });
  t.same(message, [{ offsetBytes: 8192, lengthBytes: 4096 }]);
  await new Promise((resolve) => worker.once("exit", resolve));
});

void t.test("await using closes, closing twice is nothing, use after it is CLOSED", async (t) => {
  const path = await newDiskFile();
  let kept: TrackedDisk;
  {
    await using disk = await TrackedDisk.open({ path });
    kept = disk;
    await t.rejects(TrackedDisk.open({ path }), { code: "IN_USE" });
  }
  await kept.close();
  const closed = { code: "CLOSED", name: "TidemarkError" };
  await t.rejects(kept.read(0, Buffer.alloc(BLOCK)), closed);
  await t.rejects(kept.write(0, Buffer.alloc(BLOCK)), closed);
  await t.rejects(kept.flush(), closed);
  await t.rejects(kept.addTarget("t"), closed);
  await t.rejects(kept.checkpoint("t"), closed);
  await t.rejects(kept.serve({ host: "127.0.0.1" }), closed);
  t.throws(() => kept.targets(), closed);
  await using again = await TrackedDisk.open({ path });
  t.equal(again.openedClean, true);

  const device = memoryDevice(BLOCK);
  await device.close();
  await device.close();
  t.throws(() => device.read(0, Buffer.alloc(1)), { code: "CLOSED" });
  t.throws(() => device.sizeBytes, { code: "CLOSED" });
});

void t.test("a device that was handed over is closed for its former holder", async (t) => {
  const device = memoryDevice(MIB);
  await using disk = await TrackedDisk.track(device, { path: newPath() });
  t.throws(() => device.write(0, Buffer.alloc(1)), { code: "CLOSED" });
  await disk.write(0, Buffer.alloc(1));
});

void t.test("a held device blocks neither the event loop nor the other disks", async (t) => {
  await using quick = await memoryDisk();
  const held = faultDevice(memoryDevice(MIB));
  held.hold("write");
  let isDone = false;
  const writing = held.write(0, Buffer.alloc(BLOCK, 1)).then(() => (isDone = true));
  while (held.heldCount() === 0) await sleep(1);
  for (let turn = 0; turn < 20; turn += 1) {
    await sleep(1);
    await quick.write(turn * BLOCK, Buffer.alloc(BLOCK, turn));
    await readFile(new URL("../../package.json", import.meta.url));
  }
  t.equal(isDone, false);
  held.releaseHeld();
  await writing;
  t.equal(isDone, true);
  await held.close();
});

void t.test("a disk has at most 16 targets", async (t) => {
  await using disk = await memoryDisk();
  for (let index = 0; index < 16; index += 1) await disk.addTarget(`target ${index}`, "nothing");
  await disk.addTarget("target 3");
  await t.rejects(disk.addTarget("one more"), { code: "LIMIT_REACHED", name: "TidemarkError" });
  await disk.write(0, Buffer.alloc(1));
  await disk.removeTarget("target 7");
  await disk.addTarget("one more", "all");
  t.equal(disk.targets().length, 16);
  await t.rejects(disk.removeTarget("target 7"), { code: "NOT_FOUND" });
  t.throws(() => disk.slotOf("target 7"), { code: "NOT_FOUND" });
  await t.rejects(disk.addTarget(""), { code: "INVALID_ARGUMENT" });
});

void t.test("what is not a disk, a bitmap or a range is refused by name", async (t) => {
  const typed = (code: string) => ({ code, name: "TidemarkError", message: /^Cannot .*\.$/ });
  await t.rejects(TrackedDisk.open({ path: join(directory, "none") }), typed("NOT_FOUND"));
  const path = await newDiskFile();
  const odd = TrackedDisk.open({ path, granularityBytes: 5000 });
  await t.rejects(odd, typed("INVALID_ARGUMENT"));
  await writeFile(`${path}.junk`, "this is no bitmap");
  const junk = TrackedDisk.open({ path, bitmapPath: `${path}.junk` });
  await t.rejects(junk, { code: /CORRUPT|TRUNCATED/, name: "TidemarkError" });
  await (await TrackedDisk.open({ path })).close();
  await t.rejects(TrackedDisk.open({ path, diskId: randomUUID() }), typed("FOREIGN"));
  await t.rejects(TrackedDisk.open({ path, diskId: "7" }), typed("INVALID_ARGUMENT"));
  await using disk = await TrackedDisk.open({ path });
  await t.rejects(disk.write(4 * MIB - 1, Buffer.alloc(2)), typed("INVALID_ARGUMENT"));
  await t.rejects(disk.read(2 ** 52, Buffer.alloc(2)), typed("INVALID_ARGUMENT"));
  for (const offset of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    await t.rejects(disk.write(offset, Buffer.alloc(1)), typed("INVALID_ARGUMENT"));
  }
});

void t.test("a checkpoint shows the disks at one instant until it ends", async (t) => {
  await using one = await memoryDisk();
  await using two = await memoryDisk();
  const group = new ConsistencyGroup([one, two]);
  await t.rejects(group.checkpoint("t"), { code: "NOT_FOUND" });
  for (const disk of group.disks) await disk.addTarget("t", "nothing");
  await one.write(BLOCK, Buffer.alloc(2 * BLOCK, 1));
  await two.write(5 * BLOCK, Buffer.alloc(BLOCK, 2));
  const checkpoint = await group.checkpoint("t");
  await t.rejects(group.checkpoint("t"), { code: "IN_USE" });
  await one.write(BLOCK, Buffer.alloc(BLOCK, 9));
  await two.write(0, Buffer.alloc(BLOCK, 9));
  const [first, second] = checkpoint.disks;
  t.same([...(first?.changedExtents() ?? [])], [{ offsetBytes: BLOCK, lengthBytes: 2 * BLOCK }]);
  t.same([...(second?.changedExtents() ?? [])], [{ offsetBytes: 5 * BLOCK, lengthBytes: BLOCK }]);
  t.same(await first?.read(BLOCK, 2 * BLOCK), Buffer.alloc(2 * BLOCK, 1));
  await t.rejects(readOf(checkpoint, 0), { name: "TidemarkError" });
  t.equal(checkpoint.dirtyBytes, 3 * BLOCK);
  t.throws(() => checkpoint.delta("another"), { code: "INVALID_ARGUMENT" });

  await checkpoint.rollback();
  t.equal(checkpoint.isEnded, true);
  await t.rejects(checkpoint.commit(), { code: "CLOSED" });
  await t.rejects(readOf(checkpoint, BLOCK), { code: "CLOSED" });
  const next = await group.checkpoint("t");
  t.equal(next.dirtyBytes, 4 * BLOCK, "what was not committed counts again");
  await next.commit();
  {
    await using last = await group.checkpoint("t");
    t.equal(last.dirtyBytes, 0);
  }
});

async function readOf(checkpoint: Checkpoint, offsetBytes: number): Promise<void> {
  await checkpoint.disks[0]?.read(offsetBytes, BLOCK);
}

void t.test(
  "a disk with an open checkpoint is not closed, and can be closed after it",
  async (t) => {
    const disk = await memoryDisk();
    await disk.addTarget("t", "all");
    const checkpoint = await disk.checkpoint("t");
    await t.rejects(disk.close(), {
      code: "IN_USE",
      message: /because a checkpoint of it is open/,
    });
    await checkpoint.commit();
    await disk.close();
    t.throws(() => disk.targets(), { code: "CLOSED" });
  },
);

void t.test("a checkpoint that is dropped by await using is rolled back", async (t) => {
  await using disk = await memoryDisk();
  await disk.addTarget("t", "nothing");
  await disk.write(0, Buffer.alloc(BLOCK, 1));
  {
    await using checkpoint = await disk.checkpoint("t");
    t.equal(checkpoint.dirtyBytes, BLOCK);
  }
  const [target] = disk.targets();
  t.same([target?.pendingBytes, target?.inFlightBytes], [BLOCK, 0]);
});

void t.test("a capture without room breaks, and the guest writes on", async (t) => {
  await using disk = await memoryDisk();
  await disk.addTarget("t", "all");
  const checkpoint = await disk.checkpoint("t", { captureMemoryBytes: 2 * BLOCK });
  for (let block = 0; block < 16; block += 1) {
    await disk.write(block * BLOCK, Buffer.alloc(BLOCK, 1));
  }
  t.type(checkpoint.brokenReason(), "string");
  await t.rejects(readOf(checkpoint, 0), { code: "CAPTURE_BROKEN", name: "TidemarkError" });
  const [failure] = await Promise.allSettled([collect(checkpoint.delta("t"))]);
  t.equal(failure.status, "rejected");
  await checkpoint.rollback();
  t.equal(disk.targets()[0]?.pendingBytes, MIB);
});

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

// ---- NBD server --------------------------------------------------------------

void t.test("the NBD server refuses with typed errors", async (t) => {
  const typed = (code: string) => ({ code, name: "TidemarkError" });
  const socketPath = join(directory, "nbd.sock");
  await t.rejects(NbdServer.start({}), typed("INVALID_ARGUMENT"));
  await t.rejects(NbdServer.start({ socketPath, host: "::1" }), typed("INVALID_ARGUMENT"));
  await t.rejects(NbdServer.start({ host: "localhost" }), typed("INVALID_ARGUMENT"));
  await t.rejects(
    NbdServer.start({ socketPath: `/${"x".repeat(200)}` }),
    typed("INVALID_ARGUMENT"),
  );
  await t.rejects(NbdServer.start({ socketPath: join(directory, "no/s") }), typed("NOT_FOUND"));
  const server = await NbdServer.start({ socketPath });
  await t.rejects(NbdServer.start({ socketPath }), typed("IN_USE"));
  const device = memoryDevice(MIB);
  server.addExport("a", device);
  t.throws(() => server.addExport("a", device), typed("ALREADY_EXISTS"));
  await t.rejects(server.removeExport("b"), typed("NOT_FOUND"));
  await server.removeExport("a");
  await device.close();
  t.throws(() => server.addExport("a", device), typed("CLOSED"));
  await server.close();
  await server.close();
  t.throws(() => server.statistics(), typed("CLOSED"));
  t.throws(() => server.addExport("a", device), typed("CLOSED"));
  await t.rejects(server.removeExport("a"), typed("CLOSED"));
});

void t.test("closing a disk ends the servers that serve it", async (t) => {
  const path = await newDiskFile();
  const disk = await TrackedDisk.open({ path });
  const server = await disk.serve({ socketPath: `${path}.sock` });
  await disk.close();
  t.throws(() => server.statistics(), { code: "CLOSED" });
  await using again = await TrackedDisk.open({ path });
  t.equal(again.openedClean, true);
});
