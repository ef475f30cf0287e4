/**
 * Disks of one consistency group under whatever load their clients make:
 * `grouped-disks DIRECTORY SOCKET DISK_COUNT DISK_BYTES CUTS`. Serves them over NBD, prints
 * their URIs, and a second later begins to cut them, each 100 ms. Captures are held for
 * half of that, so that writes meet frozen blocks, and committed. Prints the pauses at last.
 */
import { open } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ConsistencyGroup, NbdServer, TidemarkError, TrackedDisk } from "#lib/index.js";

const TARGET = "replica";
const PERIOD_MS = 100;
/** The first cuts find nothing written yet. */
const WARM_UP_MS = 1000;

const [directory = "", socketPath = "", diskCount = "", diskBytes = "", cutCount = ""] =
  process.argv.slice(2);

async function openDisk(index: number): Promise<TrackedDisk> {
  const path = join(directory, `disk-${index}`);
  const file = await open(path, "w");
  const piece = Buffer.alloc(1 << 20, 0x5a);
  for (let at = 0; at < Number(diskBytes); at += piece.length) await file.write(piece);
  await file.sync();
  await file.close();
  const disk = await TrackedDisk.open({ path });
  await disk.addTarget(TARGET, "nothing");
  return disk;
}

const disks: TrackedDisk[] = [];
for (let index = 0; index < Number(diskCount); index += 1) disks.push(await openDisk(index));
const server = await NbdServer.start({ socketPath });
const uris = disks.map((disk, index) => {
  server.addExport(`disk-${index}`, disk.native);
  return server.uriOf(`disk-${index}`);
});
console.log(JSON.stringify({ uris }));
await sleep(WARM_UP_MS);

const group = new ConsistencyGroup(disks);
const pausesNs: number[] = [];
let missedCount = 0;
let inFlightCount = 0;
let changedBytes = 0;
while (pausesNs.length < Number(cutCount)) {
  const dueMs = performance.now() + PERIOD_MS;
  try {
    const checkpoint = await group.checkpoint(TARGET);
    const { pauseNs, requestsInFlight } = checkpoint.cut;
    pausesNs.push(pauseNs);
    inFlightCount += requestsInFlight;
    changedBytes += checkpoint.dirtyBytes;
    await sleep(PERIOD_MS / 2);
    await checkpoint.commit();
  } catch (thrown) {
    if (!(thrown instanceof TidemarkError) || thrown.code !== "TIMED_OUT") throw thrown;
    missedCount += 1;
    pausesNs.push(50e6);
  }
  await sleep(Math.max(0, dueMs - performance.now()));
}
console.log(JSON.stringify({ pausesNs, missedCount, inFlightCount, changedBytes }));
await sleep(600_000);
