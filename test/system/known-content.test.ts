/**
 * Unchanged blocks that do not travel, on real disks: contents go from A to B and back, while
 * deltas fail, answers are lost, passes are staged, disks grow, the replica rots and older
 * tables come back. After each commit the replica is the naive model at the cut.
 */
import { copyFile, open, readdir, rm } from "node:fs/promises";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import t from "tap";
import { TrackedDisk } from "#lib/index.js";
import type { TargetChanges } from "#lib/model/vm-tracker.js";
import { TrackedVm } from "#lib/tracking/tracked-vm.js";
import { testKnownContent } from "../contracts/known-content.js";
import { decodeSegment } from "../contracts/segment-bytes.js";
import { scratchDirectory } from "../support/program.js";
import { SeededRandom } from "../support/seeded-random.js";

const BLOCK = 4096;
const TARGET = randomUUID();
const CONTENTS = [0, 1, 2];
const directory = await scratchDirectory(t);

/** Counts whatever the runs have met. */
const met: Record<string, number> = {};
function note(name: string, count = 1): void {
  met[name] = (met[name] ?? 0) + count;
}

class Run {
  readonly #random: SeededRandom;
  readonly #names: readonly string[];
  #disks: TrackedDisk[] = [];
  #vm: TrackedVm | null = null;
  /** What the guest has written. */
  readonly #model: Buffer[];
  /** What the replica holds. */
  #head: { readonly pointId: string | null; readonly disks: readonly Buffer[] };
  #kept = 0;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed * 7919);
    this.#names = ["a", "b"].map((name) => join(directory, `${seed}-${name}`));
    this.#model = [40 * BLOCK, 9 * BLOCK + 512].map((sizeBytes) => Buffer.alloc(sizeBytes));
    this.#head = { pointId: null, disks: this.#model.map((disk) => Buffer.from(disk)) };
  }

  async run(stepCount: number): Promise<void> {
    for (const [index, name] of this.#names.entries()) {
      await using file = await open(name, "w");
      await file.truncate(this.#model[index]?.length ?? 0);
    }
    await this.#open();
    await this.#tracker.addTarget(TARGET, "nothing");
    for (let step = 0; step < stepCount; step += 1) await this.#step();
    for (const disk of this.#disks) await disk.close();
  }

  get #tracker(): TrackedVm {
    if (this.#vm === null) throw new Error("not open");
    return this.#vm;
  }

  async #open(): Promise<void> {
    this.#disks = [];
    for (const path of this.#names) {
      this.#disks.push(await TrackedDisk.open({ path, durability: "process-safe" }));
    }
    const budget = { memoryBytes: 1 << 20, spillPath: "", spillBytes: 0 };
    this.#vm = new TrackedVm(this.#disks, ["vda", "vdb"], budget);
  }

  async #step(): Promise<void> {
    for (let count = this.#random.below(6); count > 0; count -= 1) await this.#write();
    const dice = this.#random.below(20);
    if (dice < 12) await this.#cycle(null);
    else if (dice < 14) await this.#drainAndClose();
    else if (dice < 17) await this.#reopen();
    else if (dice < 18) await this.#grow();
    else await this.#rot();
  }

  async #write(): Promise<void> {
    const index = this.#random.below(2);
    const model = this.#model[index] ?? Buffer.alloc(0);
    const offset = this.#random.below(model.length);
    const length = 1 + this.#random.below(Math.min(3 * BLOCK, model.length - offset));
    const isWhole = this.#random.below(3) > 0;
    const begin = isWhole ? offset - (offset % BLOCK) : offset;
    const end = isWhole ? Math.min(model.length, begin + 2 * BLOCK) : offset + length;
    model.fill(this.#random.below(CONTENTS.length), begin, end);
    await this.#disks[index]?.write(begin, model.subarray(begin, end));
  }

  /** On top of what was staged, when something was. */
  async #cycle(staged: readonly Buffer[] | null): Promise<void> {
    const unchangedSince = staged === null ? this.#head.pointId : null;
    const options = { segmentBytes: 4 * BLOCK, drainLimitMs: 5000, unchangedSince };
    const changes = await this.#tracker.checkpoint(TARGET, options);
    const atCut = this.#model.map((disk) => Buffer.from(disk));
    const pointId = randomUUID();
    const arrived = sized(staged ?? this.#head.disks, atCut);
    const isWhole = await this.#deliver(changes, arrived);
    if (!isWhole) {
      note("given back");
      return changes.giveBack();
    }
    for (const [index, disk] of arrived.entries()) {
      if (!disk.equals(atCut[index] ?? disk)) throw new Error(`disk ${index} is not the cut`);
    }
    this.#head = { pointId, disks: arrived };
    if (this.#random.below(6) > 0) return changes.commit(pointId);
    note("answer lost");
    await changes.giveBack();
    await this.#tracker.commitInFlight(TARGET);
  }

  /** False: it was given up somewhere. Some segments are sent twice, with writes in between. */
  async #deliver(changes: TargetChanges, arrived: readonly Buffer[]): Promise<boolean> {
    const isDoomed = this.#random.below(5) === 0;
    for (const plan of changes.segments) {
      let sentBytes = 0;
      for (let attempt = this.#random.below(2); attempt >= 0; attempt -= 1) {
        if (this.#random.below(3) === 0) await this.#write();
        sentBytes = 0;
        const pieces: Buffer[] = [];
        for await (const piece of changes.source(randomUUID(), plan).records()) {
          pieces.push(Buffer.from(piece));
        }
        for (const extent of decodeSegment(Buffer.concat(pieces)).extents) {
          const content = extent.content ?? new Uint8Array(extent.lengthBytes);
          arrived[plan.diskIndex]?.set(content, extent.offsetBytes);
          sentBytes += content.length;
        }
      }
      note("left out", plan.contentBytes - sentBytes);
      changes.release(plan);
      if (isDoomed && this.#random.below(3) === 0) return false;
    }
    return !isDoomed;
  }

  async #drainAndClose(): Promise<void> {
    note("drained");
    const staged = sized(this.#head.disks, this.#model);
    for (let passes = 1 + this.#random.below(2); passes > 0; passes -= 1) {
      const changes = await this.#tracker.drain(TARGET, { drainLimitMs: 5000 });
      for (const plan of changes.segments) {
        const pieces: Buffer[] = [];
        for await (const piece of changes.source(randomUUID(), plan).records()) {
          pieces.push(Buffer.from(piece));
        }
        for (const extent of decodeSegment(Buffer.concat(pieces)).extents) {
          const content = extent.content ?? new Uint8Array(extent.lengthBytes);
          staged[plan.diskIndex]?.set(content, extent.offsetBytes);
        }
      }
      await changes.stage();
      await this.#write();
    }
    const before = this.#head.pointId;
    await this.#cycle(staged);
    if (this.#head.pointId === before) await this.#tracker.unstage(TARGET);
  }

  /** Another table than the one that was left may be found: any of an earlier time, or none. */
  async #reopen(): Promise<void> {
    for (const disk of this.#disks) await disk.close();
    for (const name of this.#names) {
      const known = `${name}.tidemark.${TARGET}.known`;
      const kept = (await readdir(directory)).filter((file) =>
        file.startsWith(`${known}-`.slice(directory.length + 1)),
      );
      await copyFile(known, `${known}-${(this.#kept += 1)}`).catch(() => note("no table"));
      if (this.#random.below(3) > 0) continue;
      const old = kept[this.#random.below(Math.max(1, kept.length))];
      if (old === undefined) continue;
      note("older table");
      await rm(known, { force: true });
      await copyFile(join(directory, old), known);
    }
    await this.#open();
  }

  async #grow(): Promise<void> {
    note("grown");
    const index = this.#random.below(2);
    const model = this.#model[index] ?? Buffer.alloc(0);
    const grown = Buffer.concat([model, Buffer.alloc(BLOCK / 2)]);
    this.#model[index] = grown;
    await this.#disks[index]?.resize(grown.length);
  }

  /** What is found damaged at the replica travels, whatever is known of it. */
  async #rot(): Promise<void> {
    if (this.#head.pointId === null) return;
    note("rotten");
    const index = this.#random.below(2);
    const disk = this.#head.disks[index] ?? Buffer.alloc(0);
    const block = this.#random.below(Math.floor(disk.length / BLOCK));
    disk.fill(0xee, block * BLOCK, (block + 1) * BLOCK);
    await this.#tracker.markPending(TARGET, index, [block * BLOCK, BLOCK]);
  }
}

/** Copies as large as the others. */
function sized(disks: readonly Buffer[], like: readonly Buffer[]): Buffer[] {
  return disks.map((disk, index) => {
    const copy = Buffer.alloc(like[index]?.length ?? 0);
    disk.copy(copy);
    return copy;
  });
}

void t.test(
  "G2: what is left out of deltas is what the replica has, whatever happens",
  async (t) => {
    for (let seed = 1; seed <= 12; seed += 1) {
      await new Run(seed)
        .run(30)
        .catch((thrown: unknown) => t.fail(`seed ${seed}: ${String(thrown)}`));
    }
    t.comment(JSON.stringify(met));
    const names = [
      "left out",
      "given back",
      "answer lost",
      "drained",
      "older table",
      "grown",
      "rotten",
    ];
    for (const name of names) t.ok((met[name] ?? 0) > 0, `it happened: ${name}`);
  },
);

let diskCount = 0;

testKnownContent(t, async () => {
  const path = join(directory, `contract-${(diskCount += 1)}`);
  const size = 16 * BLOCK;
  await using file = await open(path, "w");
  await file.truncate(size);
  const disk = await TrackedDisk.open({ path, durability: "process-safe" });
  const budget = { memoryBytes: 1 << 20, spillPath: "", spillBytes: 0 };
  const tracker = new TrackedVm([disk], ["vda"], budget);
  await tracker.addTarget(TARGET, "nothing");
  return {
    tracker,
    targetId: TARGET,
    write: (block, value) => disk.write(block * BLOCK, Buffer.alloc(BLOCK, value)),
    resize: (blockCount) => disk.resize(blockCount * BLOCK),
    suspect: () => disk.suspectAll("lost writes"),
    close: () => disk.close(),
  };
});

void t.test("the table goes with the setting, and with the target", async (t) => {
  const path = join(directory, "setting");
  await using file = await open(path, "w");
  await file.truncate(4 * BLOCK);
  await using disk = await TrackedDisk.open({ path, durability: "process-safe" });
  const tracker = new TrackedVm([disk], ["vda"], {
    memoryBytes: 1 << 20,
    spillPath: "",
    spillBytes: 0,
  });
  await tracker.addTarget(TARGET, "nothing");
  const tables = async () =>
    (await readdir(directory)).filter((name) => /^setting.*[.]known$/.test(name)).length;
  const learn = async () =>
    (await tracker.checkpoint(TARGET, { drainLimitMs: 5000, unchangedSince: null })).commit(
      randomUUID(),
    );
  await learn();
  t.equal(await tables(), 1);
  await (await tracker.checkpoint(TARGET, { drainLimitMs: 5000 })).giveBack();
  t.equal(await tables(), 0);
  await learn();
  t.equal(await tables(), 1);
  await tracker.removeTarget(TARGET);
  t.equal(await tables(), 0);
});
