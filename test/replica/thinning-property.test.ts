/**
 * G5, T26, T36: random histories of a VM's points, given up, pinned, labelled, opened and
 * merged, across restarts, against a model that knows no layers.
 */
import { join } from "node:path";
import t, { type Test } from "tap";
import { NodeStoreFiles } from "#lib/replica/node-store-files.js";
import type { OpenedPoint } from "#lib/replica/opened-point.js";
import { ReplicaStore } from "#lib/replica/replica-store.js";
import type { LayerNative } from "#lib/replica/replica-tools.js";
import { openSegmentSink } from "#lib/replica/segment-sink.js";
import { binding } from "#lib/tracking/binding.js";
import { SeededRandom } from "../support/seeded-random.js";
import { MemoryFiles } from "./support/memory-files.js";
import { memoryDirectory } from "./support/native-scene.js";
import { plainLayers } from "./support/plain-layers.js";
import {
  BLOCK_COUNT,
  type Blocks,
  blockValues,
  ExpectedDisks,
  openPlainStore,
  readBlocks,
  readOpenedDisk,
  Scene,
} from "./support/scene.js";

t.setTimeout(600_000);

interface Known {
  readonly pointId: string;
  readonly content: ExpectedDisks;
  isPinned: boolean;
  label: string | null;
}

interface Place {
  readonly open: () => Promise<ReplicaStore>;
  readonly native: LayerNative;
  readonly layerNames: (vmId: string) => Promise<readonly string[]>;
}

/** A store and what must be in it. */
class History {
  readonly #random: SeededRandom;
  readonly #place: Place;
  readonly #scene = new Scene();
  readonly #opened = new Map<OpenedPoint, "passing" | "lasting">();
  #store: ReplicaStore;
  #known: Known[] = [];

  constructor(seed: number, place: Place, store: ReplicaStore) {
    this.#random = new SeededRandom(seed);
    this.#place = place;
    this.#store = store;
  }

  async run(stepCount: number): Promise<string | null> {
    await this.#store.enable(this.#scene.vm, this.#scene.generation);
    for (let step = 0; step < stepCount; step += 1) {
      const what = await this.#step();
      const wrong = await this.#wrong();
      if (wrong !== null) return `step ${step}, ${what}: ${wrong}`;
    }
    return this.#endsTidy();
  }

  async close(): Promise<void> {
    await this.#store.close();
  }

  async #step(): Promise<string> {
    const chance = this.#random.below(100);
    if (chance < 40) return this.#commit();
    if (chance < 48) return this.#commitStaged();
    if (chance < 65) return this.#giveUp();
    if (chance < 78) return this.#merge();
    if (chance < 86) return this.#edit();
    if (chance < 96) return this.#openOrRelease();
    return this.#restart();
  }

  #blocks(): Blocks {
    const some = () => {
      const count = this.#random.below(4);
      const changes = Array.from({ length: count }, () => [
        this.#random.below(BLOCK_COUNT),
        this.#random.below(3) === 0 ? 0 : 1 + this.#random.below(250),
      ]);
      return Object.fromEntries(changes) as Record<number, number>;
    };
    const all: [number, Record<number, number>][] = [
      [0, some()],
      [1, some()],
    ];
    return Object.fromEntries(all.filter(([, values]) => Object.keys(values).length > 0));
  }

  get #head(): Known | undefined {
    return this.#known.at(-1);
  }

  #knowNew(pointId: string, changes: readonly Blocks[]): void {
    if (pointId === this.#head?.pointId) return;
    const before = this.#head?.content ?? new ExpectedDisks();
    const content = changes.reduce((disks, blocks) => disks.with(blocks), before);
    this.#known.push({ pointId, content, isPinned: false, label: null });
  }

  async #commit(): Promise<string> {
    const blocks = this.#blocks();
    const parentPointId = this.#head?.pointId ?? null;
    const header = this.#scene.header({ parentPointId });
    const point = await this.#scene.deliver(this.#store, header, blocks);
    this.#knowNew(point?.pointId ?? "", [blocks]);
    return "a commit";
  }

  async #commitStaged(): Promise<string> {
    const { vmId } = this.#scene.vm;
    const parentPointId = this.#head?.pointId ?? null;
    const stagingSessionId = await this.#store.openStaging(vmId, this.#scene.generation);
    const changes = [this.#blocks(), this.#blocks(), this.#blocks()];
    for (const [index, blocks] of changes.entries()) {
      const kind = index < 2 ? ("staging" as const) : ("point" as const);
      const header = this.#scene.header({ kind, parentPointId, stagingSessionId });
      const point = await this.#scene.deliver(this.#store, header, blocks);
      if (kind === "point") this.#knowNew(point?.pointId ?? "", changes);
    }
    return "a commit of a staging session";
  }

  #isOpen(pointId: string): boolean {
    return [...this.#opened.keys()].some(({ point }) => point.pointId === pointId);
  }

  async #giveUp(): Promise<string> {
    const density = 1 + this.#random.below(3);
    const asked = this.#known.filter(() => this.#random.below(4) < density);
    const gone = asked.filter(
      (one) => one !== this.#head && !one.isPinned && !this.#isOpen(one.pointId),
    );
    const ids = new Set(asked.map(({ pointId }) => pointId));
    await this.#store.retention.giveUp(this.#scene.vm.vmId, () => ids);
    this.#known = this.#known.filter((one) => !gone.includes(one));
    return "giving up";
  }

  async #merge(): Promise<string> {
    const isDone = await this.#store.retention.merge(this.#scene.vm.vmId);
    const isBlocked = [...this.#opened.values()].includes("lasting");
    if (!isDone && !isBlocked) throw new Error("a merge was not done, and nothing was in its way");
    return "a merge";
  }

  async #edit(): Promise<string> {
    const one = this.#known[this.#random.below(Math.max(1, this.#known.length))];
    if (one === undefined) return "nothing";
    one.isPinned = this.#random.below(3) === 0;
    one.label = this.#random.below(2) === 0 ? null : `label ${this.#random.below(100)}`;
    const { isPinned, label } = one;
    await this.#store.retention.edit(this.#scene.vm.vmId, one.pointId, { isPinned, label });
    return "an edit";
  }

  async #openOrRelease(): Promise<string> {
    const [first] = this.#opened.keys();
    if (first !== undefined && this.#random.below(2) === 0) {
      this.#opened.delete(first);
      first.release();
      return "a release";
    }
    const one = this.#known[this.#random.below(Math.max(1, this.#known.length))];
    if (one === undefined) return "nothing";
    const use = this.#random.below(3) === 0 ? "lasting" : "passing";
    const opened = await this.#store.openPoint(this.#scene.vm.vmId, one.pointId, use);
    this.#opened.set(opened, use);
    return `an opening, ${use}`;
  }

  /** What was open in passing is closed then; what is open for long finds the same files. */
  async #restart(): Promise<string> {
    await this.#store.close();
    this.#store = await this.#place.open();
    const before = new Map(this.#opened);
    this.#opened.clear();
    for (const [opened, use] of before) {
      if (use === "passing") continue;
      const { vmId } = this.#scene.vm;
      const again = await this.#store.openPoint(vmId, opened.point.pointId, use);
      const paths = ({ disks }: OpenedPoint) => disks.flatMap((disk) => disk.layerPaths).join();
      if (paths(again) !== paths(opened)) throw new Error("a failover lies on other layers");
      this.#opened.set(again, use);
    }
    return "a restart";
  }

  async #wrong(): Promise<string | null> {
    const { vmId } = this.#scene.vm;
    const found = await this.#store.retention.list(vmId);
    const describe = (one: { isPinned: boolean; label: string | null }, id: string) =>
      `${id} ${one.isPinned} ${one.label}`;
    const seen = found.map((one) => describe(one, one.point.pointId)).join();
    const want = this.#known.map((one) => describe(one, one.pointId)).join();
    if (seen !== want) return `${seen} instead of ${want}`;
    const differing = await Promise.all(
      this.#known.map(async ({ pointId, content }) => {
        const blocks = await readBlocks(this.#store, this.#place.native, vmId, pointId);
        return JSON.stringify(blocks) === JSON.stringify(content.values) ? [] : [pointId];
      }),
    );
    const [first] = differing.flat();
    return first === undefined ? this.#openedReadWell() : `${first} differs`;
  }

  /** Through the files that each was opened with, merged or not by now. */
  async #openedReadWell(): Promise<string | null> {
    for (const { point, disks } of this.#opened.keys()) {
      const known = this.#known.find(({ pointId }) => pointId === point.pointId);
      for (const [index, disk] of disks.entries()) {
        const found = blockValues(await readOpenedDisk(this.#place.native, disk));
        const isWell = found.join() === known?.content.values[index]?.join();
        if (!isWell) return `open point ${point.sequence} differs`;
      }
    }
    return null;
  }

  async #endsTidy(): Promise<string | null> {
    const { vmId } = this.#scene.vm;
    for (const opened of this.#opened.keys()) opened.release();
    this.#opened.clear();
    if (!(await this.#store.retention.merge(vmId))) return "the last merge was not done";
    const names = await this.#place.layerNames(vmId);
    await this.#restart();
    const after = await this.#place.layerNames(vmId);
    if (names.join() !== after.join()) return `T36: ${names.length} layers, ${after.length} needed`;
    return this.#wrong();
  }
}

async function runSeeds(
  t: Test,
  seedCount: number,
  stepCount: number,
  place: () => Promise<Place>,
) {
  for (let seed = 1; seed <= seedCount; seed += 1) {
    const there = await place();
    const history = new History(seed, there, await there.open());
    const wrong = await history.run(stepCount).catch((thrown: unknown) => String(thrown));
    await history.close();
    if (wrong !== null) t.fail(`seed ${seed}: ${wrong}`);
  }
}

void t.test("G5 T26 T36: any history on plain layers", async (t) => {
  await runSeeds(t, 30, 50, async () => {
    const files = new MemoryFiles();
    return {
      open: () => openPlainStore("/store", files),
      native: plainLayers(files),
      layerNames: (vmId) => files.list(`/store/vms/${vmId}/epochs/0000000001/layers`),
    };
  });
});

void t.test("G5 T26 T36: any history on the addon's layers", async (t) => {
  const files = new NodeStoreFiles();
  const directory = await memoryDirectory(t);
  let count = 0;
  await runSeeds(t, 8, 40, async () => {
    count += 1;
    const root = join(directory, String(count));
    return {
      open: () => ReplicaStore.open({ root, native: binding, openSink: openSegmentSink }),
      native: binding,
      layerNames: (vmId) => files.list(join(root, "vms", vmId, "epochs", "0000000001", "layers")),
    };
  });
});
