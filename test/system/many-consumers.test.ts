/**
 * Sixteen consumers of one disk, replication's targets and backup tools' bitmaps, each
 * with its own interval, some added and removed on the way, under four writers. Each
 * keeps an image that only what it was told has changed is copied into; the oracle is
 * the list of writes of each block, with when they began and when they were answered.
 */
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { TrackedDisk } from "#lib/index.js";
import { scratchDirectory } from "../support/program.js";
import { SeededRandom } from "../support/seeded-random.js";

const BLOCK = 4096;
const BLOCKS = 256;
const CONSUMERS = 16;
const STEPS = 120;
const directory = await scratchDirectory(t);

t.setTimeout(300_000);

/** Of one block; stamps rise. Infinite: not answered yet. */
interface Write {
  readonly stamp: number;
  readonly beganAt: number;
  answeredAt: number;
}

class Guest {
  readonly writes: Write[][] = Array.from({ length: BLOCKS }, () => []);
  #disk: TrackedDisk;
  #time = 0;
  #stamp = 0;
  #isEnding = false;
  #running: Promise<unknown> = Promise.resolve();

  constructor(disk: TrackedDisk) {
    this.#disk = disk;
  }

  now(): number {
    return (this.#time += 1);
  }

  get writeCount(): number {
    return this.#stamp;
  }

  /** Each writer has blocks of its own, so that a block's writes have an order. */
  start(disk: TrackedDisk): void {
    this.#disk = disk;
    this.#isEnding = false;
    this.#running = Promise.all([0, 1, 2, 3].map((writer) => this.#write(writer)));
  }

  async stop(): Promise<void> {
    this.#isEnding = true;
    await this.#running;
  }

  async #write(writer: number): Promise<void> {
    const random = new SeededRandom(writer + 1);
    const area = BLOCKS / 4;
    while (!this.#isEnding) {
      const count = 1 + random.below(4);
      const first = writer * area + random.below(area - count + 1);
      const data = Buffer.alloc(count * BLOCK);
      const made: Write[] = [];
      for (let n = 0; n < count; n += 1) {
        const write = {
          stamp: (this.#stamp += 1),
          beganAt: this.now(),
          answeredAt: Number.POSITIVE_INFINITY,
        };
        data.writeUInt32LE(write.stamp, n * BLOCK);
        this.writes[first + n]?.push(write);
        made.push(write);
      }
      await this.#disk.write(first * BLOCK, data);
      for (const write of made) write.answeredAt = this.now();
      // So that not everything has always changed.
      await sleep(random.below(3));
    }
  }

  /** What blocks of an image cut between the two times cannot be. */
  faultsOf(image: Buffer, before: number, after: number): string[] {
    return this.writes.flatMap((writes, block) => {
      const stamp = image.readUInt32LE(block * BLOCK);
      const due = writes.findLast(({ answeredAt }) => answeredAt < before)?.stamp ?? 0;
      const last = writes.findLast(({ beganAt }) => beganAt < after)?.stamp ?? 0;
      return stamp >= due && stamp <= last ? [] : [`block ${block}: ${stamp}, not ${due}..${last}`];
    });
  }
}

class Consumer {
  readonly name: string;
  readonly interval: number;
  readonly #kind: "target" | "bitmap";
  image = Buffer.alloc(BLOCKS * BLOCK);
  cutCount = 0;

  constructor(index: number, round: number) {
    this.name = `consumer ${index}.${round}`;
    this.#kind = index % 2 === 0 ? "target" : "bitmap";
    this.interval = 1 + index;
  }

  async add(disk: TrackedDisk): Promise<void> {
    if (this.#kind === "target") await disk.addTarget(this.name);
    else await disk.addBitmap(this.name);
  }

  async remove(disk: TrackedDisk): Promise<void> {
    if (this.#kind === "target") await disk.removeTarget(this.name);
    else await disk.removeBitmap(this.name);
  }

  /** A cut, its changes into the image, and one time in four no commit, and no image. */
  async cycle(disk: TrackedDisk, guest: Guest, isKept: boolean): Promise<string[]> {
    const before = guest.now();
    const options = { drainLimitMs: 10_000 };
    const cut =
      this.#kind === "target"
        ? await disk.checkpoint(this.name, options)
        : await disk.beginBackup(this.name, options);
    const after = guest.now();
    const image = Buffer.from(this.image);
    for (const each of cut.disks) {
      for (const { offsetBytes, lengthBytes } of each.changedExtents()) {
        const into = image.subarray(offsetBytes, offsetBytes + lengthBytes);
        if ("native" in each) await each.read(offsetBytes, into);
        else (await each.read(offsetBytes, lengthBytes)).copy(into);
      }
    }
    const faults = guest.faultsOf(image, before, after);
    this.cutCount += 1;
    if (isKept) {
      this.image = image;
      await cut.commit();
    } else if ("abandon" in cut) {
      await cut.abandon();
    } else {
      await cut.rollback();
    }
    return faults.map((fault) => `${this.name}: ${fault}`);
  }
}

/** Online: the writers go on, and so do the others' cuts. */
async function replaceOne(
  consumers: Consumer[],
  index: number,
  step: number,
  disk: TrackedDisk,
): Promise<void> {
  await consumers[index]?.remove(disk);
  const fresh = new Consumer(index, step);
  consumers[index] = fresh;
  await fresh.add(disk);
}

void t.test("sixteen consumers with intervals of their own each see every change", async (t) => {
  const path = join(directory, "disk.raw");
  await using file = await open(path, "w");
  await file.truncate(BLOCKS * BLOCK);
  let disk = await TrackedDisk.open({ path, granularityBytes: BLOCK });
  const guest = new Guest(disk);
  const consumers = Array.from({ length: CONSUMERS }, (_none, index) => new Consumer(index, 0));
  for (const consumer of consumers) await consumer.add(disk);
  await t.rejects(disk.addBitmap("one too many"), { code: "LIMIT_REACHED" });
  t.notMatch(await readFile(`${path}.tidemark.names`, "utf8"), "one too many");
  guest.start(disk);
  const random = new SeededRandom(99);
  const faults: string[] = [];
  for (let step = 1; step <= STEPS; step += 1) {
    const due = consumers.filter(({ interval }) => step % interval === 0);
    // Several at once: their captures are open together.
    const found = await Promise.all(
      due.map((each) => each.cycle(disk, guest, random.below(4) > 0)),
    );
    faults.push(...found.flat());
    if (step % 10 === 0) await replaceOne(consumers, random.below(CONSUMERS), step, disk);
    if (step === STEPS / 2) {
      await guest.stop();
      await disk.close();
      disk = await TrackedDisk.open({ path });
      guest.start(disk);
    }
  }
  await guest.stop();
  for (const each of consumers) faults.push(...(await each.cycle(disk, guest, true)));
  const content = Buffer.alloc(BLOCKS * BLOCK);
  await disk.read(0, content);
  for (const { image, name } of consumers) t.ok(image.equals(content), `${name}, at rest`);
  t.same(faults.slice(0, 10), []);
  const cutCounts = consumers.map(({ cutCount }) => cutCount);
  t.comment(`${guest.writeCount} writes, cuts: ${cutCounts.join(" ")}`);
  await disk.close();
});
