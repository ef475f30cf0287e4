/**
 * The bitmap against a naive model: random writes, trims and checkpoints, and
 * after each step every map and every capture is what the model says. A model
 * with a planted fault must be found out, or the check could not fail.
 */
import { open } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import t from "tap";
import { TrackedDisk } from "#lib/index.js";
import type { Checkpoint } from "#lib/tracking/checkpoint.js";
import { scratchDirectory } from "../support/program.js";

const BLOCK = 4096;
const BLOCK_COUNT = 150;
/** The last block is not whole. */
const SIZE = BLOCK_COUNT * BLOCK - 1536;
const TARGETS = ["one", "two", "three"] as const;
type TargetName = (typeof TARGETS)[number];

type Step =
  | { readonly kind: "write" | "trim" | "zero"; readonly offset: number; readonly length: number }
  | { readonly kind: "add"; readonly target: TargetName; readonly all: boolean }
  | { readonly kind: "remove" | "cut" | "commit" | "rollback"; readonly target: TargetName }
  | { readonly kind: "stage" | "unstage"; readonly target: TargetName }
  | { readonly kind: "reopen" };

class ModelTarget {
  readonly pending = new Set<number>();
  readonly inFlight = new Set<number>();
  readonly staged = new Set<number>();
}

/** Sets of block numbers, written down from the rules and nothing else. */
class Model {
  readonly live = new Set<number>();
  readonly targets = new Map<TargetName, ModelTarget>();

  mark(offset: number, length: number): void {
    if (length === 0) return;
    const last = Math.floor((offset + length - 1) / BLOCK);
    for (let block = Math.floor(offset / BLOCK); block <= last; block += 1) this.live.add(block);
  }

  add(name: TargetName, all: boolean): void {
    if (this.targets.has(name)) return;
    const target = new ModelTarget();
    if (all) for (let block = 0; block < BLOCK_COUNT; block += 1) target.pending.add(block);
    this.targets.set(name, target);
  }

  /** What was live is everyone's; what was pending for the one is in flight. */
  cut(name: TargetName): void {
    for (const target of this.targets.values()) addAll(target.pending, this.live);
    this.live.clear();
    this.move(name, "pending", "inFlight");
  }

  move(name: TargetName, from: keyof ModelTarget, to: keyof ModelTarget): void {
    const target = this.targets.get(name);
    if (target === undefined) return;
    addAll(target[to], target[from]);
    target[from].clear();
  }

  forget(name: TargetName): void {
    const target = this.targets.get(name);
    target?.inFlight.clear();
    target?.staged.clear();
  }
}

function addAll(into: Set<number>, from: ReadonlySet<number>): void {
  for (const block of from) into.add(block);
}

const target = fc.constantFrom(...TARGETS);
const range = fc
  .tuple(fc.nat(SIZE - 1), fc.oneof(fc.nat(3 * BLOCK), fc.nat(40 * BLOCK)))
  .map(([offset, length]) => ({ offset, length: Math.min(length + 1, SIZE - offset) }));
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: range.map((one): Step => ({ kind: "write", ...one })) },
    { weight: 2, arbitrary: range.map((one): Step => ({ kind: "trim", ...one })) },
    { weight: 2, arbitrary: range.map((one): Step => ({ kind: "zero", ...one })) },
    {
      weight: 3,
      arbitrary: fc
        .tuple(target, fc.boolean())
        .map(([one, all]): Step => ({ kind: "add", target: one, all })),
    },
    ...(["cut", "cut", "commit", "rollback", "stage", "unstage"] as const).map((kind) => ({
      weight: 2,
      arbitrary: target.map((one): Step => ({ kind, target: one })),
    })),
    { weight: 1, arbitrary: target.map((one): Step => ({ kind: "remove", target: one })) },
    { weight: 1, arbitrary: fc.constant<Step>({ kind: "reopen" }) },
  ),
  { minLength: 5, maxLength: 40 },
);

const directory = await scratchDirectory(t);
let diskCount = 0;

/** The disk and the model side by side. */
class Run {
  readonly model: Model;
  readonly #path: string;
  readonly #open = new Map<TargetName, Checkpoint>();
  #disk: TrackedDisk;

  private constructor(model: Model, path: string, disk: TrackedDisk) {
    this.model = model;
    this.#path = path;
    this.#disk = disk;
  }

  static async start(model: Model): Promise<Run> {
    diskCount += 1;
    const path = join(directory, `disk-${diskCount}`);
    return new Run(model, path, await openDisk(path));
  }

  async step(step: Step): Promise<void> {
    if (step.kind === "reopen") return this.#reopen();
    if ("offset" in step) return this.#change(step);
    const isKnown = this.model.targets.has(step.target);
    if (step.kind === "add") {
      await this.#disk.addTarget(step.target, step.all ? "all" : "nothing");
      this.model.add(step.target, step.all);
    } else if (isKnown) {
      await this.#onTarget(step.kind, step.target);
    }
  }

  /** Every map, and what each open checkpoint says. */
  isAsModelled(): boolean {
    const native = this.#disk.native;
    const blocks = (kind: "live" | "pending" | "inFlight" | "staged", slot: number) =>
      blocksOf(native.dirtyExtents(kind, slot, 0, 1000, 8 * BLOCK));
    if (!isSame(blocks("live", 0), this.model.live)) return false;
    for (const [name, modelled] of this.model.targets) {
      const slot = this.#disk.slotOf(name);
      if (!isSame(blocks("pending", slot), modelled.pending)) return false;
      if (!isSame(blocks("inFlight", slot), modelled.inFlight)) return false;
      if (!isSame(blocks("staged", slot), modelled.staged)) return false;
      const captured = this.#open.get(name)?.disks[0]?.changedExtents();
      if (captured === undefined) continue;
      const pairs = [...captured].flatMap(({ offsetBytes, lengthBytes }) => [
        offsetBytes,
        lengthBytes,
      ]);
      if (!isSame(blocksOf(Float64Array.from(pairs)), modelled.inFlight)) return false;
    }
    return this.#disk.targets().length === this.model.targets.size;
  }

  async end(): Promise<void> {
    for (const checkpoint of this.#open.values()) await checkpoint.rollback();
    await this.#disk.close();
  }

  async #change({ kind, offset, length }: Extract<Step, { offset: number }>): Promise<void> {
    const native = this.#disk.native;
    if (kind === "write") await this.#disk.write(offset, Buffer.alloc(length, 1));
    else if (kind === "trim") await native.trim(offset, length);
    else await native.writeZeroes(offset, length);
    this.model.mark(offset, length);
  }

  async #onTarget(
    kind: "remove" | "cut" | "commit" | "rollback" | "stage" | "unstage",
    name: TargetName,
  ): Promise<void> {
    const checkpoint = this.#open.get(name);
    if (kind === "cut") return checkpoint === undefined ? this.#cut(name) : undefined;
    if (kind === "remove" || kind === "unstage") {
      if (checkpoint !== undefined) return;
      return kind === "remove" ? this.#remove(name) : this.#unstage(name);
    }
    if (checkpoint === undefined) return;
    this.#open.delete(name);
    await checkpoint[kind]();
    if (kind === "commit") this.model.forget(name);
    if (kind === "rollback") this.model.move(name, "inFlight", "pending");
    if (kind === "stage") this.model.move(name, "inFlight", "staged");
  }

  async #cut(name: TargetName): Promise<void> {
    this.#open.set(name, await this.#disk.checkpoint(name));
    this.model.cut(name);
  }

  async #remove(name: TargetName): Promise<void> {
    await this.#disk.removeTarget(name);
    this.model.targets.delete(name);
  }

  async #unstage(name: TargetName): Promise<void> {
    await this.#disk.native.unstage(this.#disk.slotOf(name));
    this.model.move(name, "staged", "pending");
  }

  async #reopen(): Promise<void> {
    if (this.#open.size > 0) return;
    await this.#disk.close();
    this.#disk = await openDisk(this.#path);
  }
}

/** On a file: what memory holds is another disk's after every opening, and suspect. */
async function openDisk(path: string): Promise<TrackedDisk> {
  const file = await open(path, "a");
  if ((await file.stat()).size === 0) await file.truncate(SIZE);
  await file.close();
  return TrackedDisk.open({ path, granularityBytes: BLOCK });
}

function blocksOf(pairs: Float64Array): Set<number> {
  const blocks = new Set<number>();
  for (let index = 0; index + 1 < pairs.length; index += 2) {
    const offset = pairs[index] ?? 0;
    const end = Math.ceil((offset + (pairs[index + 1] ?? 0)) / BLOCK);
    for (let block = offset / BLOCK; block < end; block += 1) blocks.add(block);
  }
  return blocks;
}

function isSame(left: ReadonlySet<number>, right: ReadonlySet<number>): boolean {
  return left.size === right.size && [...left].every((block) => right.has(block));
}

function holdsFor(newModel: () => Model) {
  return fc.asyncProperty(steps, async (story) => {
    const run = await Run.start(newModel());
    try {
      for (const step of story) {
        await run.step(step);
        if (!run.isAsModelled()) return false;
      }
      return true;
    } finally {
      await run.end();
    }
  });
}

void t.test("the maps are what the model says, whatever happens", async (t) => {
  const result = await fc.check(
    holdsFor(() => new Model()),
    { seed: 20, numRuns: 150 },
  );
  t.equal(result.failed, false, JSON.stringify(result.counterexample));
});

/** Rounds the end of a range inward: the block that a write only begins is forgotten. */
class ForgetsLastBlock extends Model {
  override mark(offset: number, length: number): void {
    super.mark(offset, Math.max(0, Math.floor((offset + length) / BLOCK) * BLOCK - offset));
  }
}

/** A rollback that loses what it had in flight. */
class LosesOnRollback extends Model {
  override move(name: TargetName, from: keyof ModelTarget, to: keyof ModelTarget): void {
    if (from === "inFlight" && to === "pending") this.targets.get(name)?.inFlight.clear();
    else super.move(name, from, to);
  }
}

/** A checkpoint of one target that keeps its changes from the others. */
class ForgetsOthers extends Model {
  override cut(name: TargetName): void {
    const own = this.targets.get(name);
    if (own !== undefined) addAll(own.pending, this.live);
    this.live.clear();
    this.move(name, "pending", "inFlight");
  }
}

for (const Faulty of [ForgetsLastBlock, LosesOnRollback, ForgetsOthers]) {
  void t.test(`a planted fault is found: ${Faulty.name}`, async (t) => {
    const result = await fc.check(
      holdsFor(() => new Faulty()),
      { seed: 20, numRuns: 150 },
    );
    t.equal(result.failed, true);
  });
}
