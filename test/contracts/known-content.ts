/** What every VmTracker must do with what is known of its targets. */
import { randomUUID } from "node:crypto";
import type { Test } from "tap";
import type { TargetChanges, VmTracker } from "#lib/model/vm-tracker.js";
import { decodeSegment } from "./segment-bytes.js";

/** A tracker with one disk of 16 whole blocks and a target without changes. */
export interface KnownContentScene {
  readonly tracker: VmTracker;
  readonly targetId: string;
  /** Fills the block with the value. */
  write(block: number, value: number): Promise<void>;
  resize(blockCount: number): Promise<void>;
  suspect(): Promise<void>;
  close(): Promise<void>;
}

class Cycles {
  readonly scene: KnownContentScene;

  constructor(scene: KnownContentScene) {
    this.scene = scene;
  }

  cut(unchangedSince?: string | null): Promise<TargetChanges> {
    const { tracker, targetId } = this.scene;
    const options = { drainLimitMs: 5000 };
    const since = unchangedSince === undefined ? {} : { unchangedSince };
    return tracker.checkpoint(targetId, { ...options, ...since });
  }

  /** The blocks that travel; all of the plans are read. */
  async read(changes: TargetChanges): Promise<number[]> {
    const granularityBytes = this.scene.tracker.disks[0]?.granularityBytes ?? 1;
    const blocks: number[] = [];
    for (const plan of changes.segments) {
      const pieces: Buffer[] = [];
      for await (const piece of changes.source(randomUUID(), plan).records()) {
        pieces.push(Buffer.from(piece));
      }
      for (const { offsetBytes, lengthBytes } of decodeSegment(Buffer.concat(pieces)).extents) {
        const first = offsetBytes / granularityBytes;
        for (let at = 0; at < lengthBytes / granularityBytes; at += 1) blocks.push(first + at);
      }
    }
    return blocks;
  }

  /** A point on top of `since`; what travels for it. */
  async point(since: string | null | undefined, pointId: string): Promise<number[]> {
    const changes = await this.cut(since);
    const blocks = await this.read(changes);
    await changes.commit(pointId);
    return blocks;
  }

  async write(value: number, ...blocks: readonly number[]): Promise<void> {
    for (const block of blocks) await this.scene.write(block, value);
  }
}

type Act = (cycles: Cycles, head: string) => Promise<string | null | undefined>;

/** After which of its acts nothing is known any more; each answers what the next cut names. */
const FORGETTING: Readonly<Record<string, Act>> = {
  "another point is the head": async () => randomUUID(),
  "the cut does not ask": async (cycles, head) => {
    const next = randomUUID();
    await cycles.point(undefined, next);
    return head;
  },
  "a commit does not name its point": async (cycles, head) => {
    const changes = await cycles.cut(head);
    await changes.commit();
    return head;
  },
  "a drain passed": async ({ scene: { tracker, targetId } }, head) => {
    await (await tracker.drain(targetId, { drainLimitMs: 5000 })).stage();
    return head;
  },
  "a doubt was settled with yes": async ({ scene: { tracker, targetId } }, head) => {
    await tracker.commitInFlight(targetId);
    return head;
  },
  "blocks must travel whatever they hold": async ({ scene: { tracker, targetId } }, head) => {
    const granularityBytes = tracker.disks[0]?.granularityBytes ?? 1;
    await tracker.markPending(targetId, 0, [0, granularityBytes]);
    return head;
  },
  "the disk is suspect": async ({ scene }, head) => {
    await scene.suspect();
    return head;
  },
  "the disk has grown": async ({ scene }, head) => {
    await scene.resize(17);
    return head;
  },
  "the target was added again": async ({ scene: { tracker, targetId } }, head) => {
    await tracker.removeTarget(targetId);
    await tracker.addTarget(targetId, "nothing");
    return head;
  },
  "a comparison found a difference": async ({ scene: { tracker, targetId } }, head) => {
    const { sizeBytes, granularityBytes } = tracker.disks[0] ?? {
      sizeBytes: 0,
      granularityBytes: 1,
    };
    const ask = async (_disk: number, extents: readonly number[], blockBytes: number) => {
      let count = 0;
      for (let i = 1; i < extents.length; i += 2)
        count += Math.ceil((extents[i] ?? 0) / blockBytes);
      return new Uint8Array(count * 32);
    };
    const range = { fromBytes: 0, limitBytes: Math.max(sizeBytes, granularityBytes) };
    await tracker.compareContent(targetId, 0, ask, range);
    return head;
  },
};

type Check = (t: Test, cycles: Cycles) => Promise<void>;

const CHECKS: Readonly<Record<string, Check>> = {
  "only what differs from the point travels, and all of it counts": async (t, cycles) => {
    const [one, two, three] = [randomUUID(), randomUUID(), randomUUID()];
    const { tracker, targetId } = cycles.scene;
    await cycles.write(5, 1, 2, 3);
    t.same(await cycles.point(null, one), [1, 2, 3]);
    await cycles.write(5, 2, 3, 4);
    const changes = await cycles.cut(one);
    t.same(await cycles.read(changes), [4]);
    await cycles.write(6, 2);
    t.same(await cycles.read(changes), [4], "read again, as of the cut");
    await changes.commit(two);
    const { pendingBytes, inFlightBytes } = await tracker.progress(targetId);
    t.equal(inFlightBytes, 0);
    t.equal(pendingBytes, tracker.disks[0]?.granularityBytes, "block 2 alone");
    t.same(await cycles.point(two, three), [2]);
    await cycles.write(5, 1, 2, 3, 4);
    t.same(await cycles.point(three, randomUUID()), [2], "A to B to A");
  },

  "what is given back has taught nothing": async (t, cycles) => {
    const one = randomUUID();
    await cycles.write(5, 1, 2);
    await cycles.point(null, one);
    await cycles.write(6, 1);
    const changes = await cycles.cut(one);
    t.same(await cycles.read(changes), [1]);
    await changes.giveBack();
    t.same(await cycles.point(one, randomUUID()), [1]);
  },

  "a delta that was not read whole leaves nothing known": async (t, cycles) => {
    const [one, two] = [randomUUID(), randomUUID()];
    await cycles.write(5, 1, 2);
    await cycles.point(null, one);
    await cycles.write(6, 1);
    await (await cycles.cut(one)).commit(two);
    await cycles.write(5, 1, 2);
    t.same(await cycles.point(two, randomUUID()), [1, 2]);
  },
};

function forgets(act: Act): Check {
  return async (t, cycles) => {
    const head = randomUUID();
    await cycles.write(5, 1, 2, 3);
    await cycles.point(null, head);
    const since = await act(cycles, head);
    await cycles.write(5, 2);
    t.ok((await cycles.point(since, randomUUID())).includes(2));
  };
}

export function testKnownContent(t: Test, newScene: () => Promise<KnownContentScene>): void {
  const check = (name: string, run: Check) =>
    void t.test(name, async (t) => {
      const scene = await newScene();
      t.teardown(() => scene.close());
      await run(t, new Cycles(scene));
    });
  for (const [name, run] of Object.entries(CHECKS)) check(name, run);
  for (const [name, act] of Object.entries(FORGETTING)) {
    check(`nothing is known when ${name}`, forgets(act));
  }
}
