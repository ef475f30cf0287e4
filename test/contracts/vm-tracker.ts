/** What the cuts of every VmTracker are, whatever its disks are made of. */
import { randomUUID } from "node:crypto";
import type { Test } from "tap";
import { hashContent } from "#lib/model/block-hashes.js";
import type { TargetChanges, VmTracker } from "#lib/model/vm-tracker.js";
import { decodeSegment } from "./segment-bytes.js";

/** A tracker whose first disk has 8 blocks of 4096 zeroes, with a target without changes. */
export interface VmTrackerScene {
  readonly tracker: VmTracker;
  readonly targetId: string;
  /** Fills a block of the first disk with the value. */
  readonly write: (block: number, value: number) => Promise<void>;
}

const BLOCK_BYTES = 4096;
const DISK_BYTES = 8 * BLOCK_BYTES;

/** The value of each block that travels. */
async function valuesOf(changes: TargetChanges): Promise<Record<number, number>> {
  const values: Record<number, number> = {};
  for (const plan of changes.segments) {
    const pieces: Buffer[] = [];
    for await (const piece of changes.source(randomUUID(), plan).records()) {
      pieces.push(Buffer.from(piece));
    }
    for (const { offsetBytes, lengthBytes, content } of decodeSegment(Buffer.concat(pieces))
      .extents) {
      for (let at = 0; at < lengthBytes; at += BLOCK_BYTES) {
        values[(offsetBytes + at) / BLOCK_BYTES] = content?.[at] ?? 0;
      }
    }
  }
  return values;
}

type Check = (t: Test, scene: VmTrackerScene) => Promise<void>;

const cutsWhatWasWritten: Check = async (t, { tracker, targetId, write }) => {
  await write(1, 5);
  await write(2, 6);
  const first = await tracker.checkpoint(targetId);
  t.same(await valuesOf(first), { 1: 5, 2: 6 });
  await first.commit(randomUUID());
  await write(2, 7);
  const second = await tracker.checkpoint(targetId);
  t.same(await valuesOf(second), { 2: 7 });
  await second.commit(randomUUID());
  const empty = await tracker.checkpoint(targetId);
  t.same([empty.segments.length, empty.dirtyBytes], [0, 0]);
  await empty.giveBack();
};

const readsAsItWasCut: Check = async (t, { tracker, targetId, write }) => {
  await write(1, 5);
  const first = await tracker.checkpoint(targetId);
  await write(1, 6);
  await write(3, 7);
  t.same(await valuesOf(first), { 1: 5 });
  t.equal(first.brokenReason(), null);
  await t.rejects(tracker.checkpoint(targetId), "one at a time");
  await first.commit(randomUUID());
  const second = await tracker.checkpoint(targetId);
  t.same(await valuesOf(second), { 1: 6, 3: 7 });
  await second.giveBack();
};

const keepsWhatIsGivenBack: Check = async (t, { tracker, targetId, write }) => {
  await write(1, 5);
  await (await tracker.checkpoint(targetId)).giveBack();
  await write(2, 6);
  const changes = await tracker.checkpoint(targetId);
  t.same(await valuesOf(changes), { 1: 5, 2: 6 });
  await changes.giveBack();
  t.equal((await tracker.progress(targetId)).pendingBytes, 2 * BLOCK_BYTES);
};

const keepsWhatIsStaged: Check = async (t, { tracker, targetId, write }) => {
  await write(1, 5);
  await (await tracker.drain(targetId)).stage();
  t.equal((await tracker.progress(targetId)).stagedBytes, BLOCK_BYTES);
  await tracker.unstage(targetId);
  const again = await tracker.drain(targetId);
  t.same(await valuesOf(again), { 1: 5 });
  await again.stage();
  await write(2, 6);
  const closing = await tracker.checkpoint(targetId);
  t.same(await valuesOf(closing), { 2: 6 });
  await closing.commit(randomUUID());
  const { pendingBytes, stagedBytes } = await tracker.progress(targetId);
  t.same([pendingBytes, stagedBytes], [0, 0]);
};

const comparesWhatIsSuspect: Check = async (t, { tracker, targetId, write }) => {
  await write(1, 5);
  await tracker.removeTarget(targetId);
  t.notOk(await tracker.hasTarget(targetId));
  await tracker.addTarget(targetId, "suspect");
  const theirs = new Uint8Array(DISK_BYTES);
  for (let passes = 0; passes < 8; passes += 1) {
    const ask = async (_: number, extents: readonly number[], blockBytes: number) =>
      hashContent(theirs, extents, blockBytes);
    const pass = await tracker.compareSuspects(targetId, ask, { limitBytes: 1 << 20 });
    if (pass.comparedBytes === 0) break;
  }
  t.equal((await tracker.progress(targetId)).suspectBytes, 0);
  const changes = await tracker.checkpoint(targetId);
  t.same(await valuesOf(changes), { 1: 5 });
  await changes.giveBack();
};

const CHECKS: Readonly<Record<string, Check>> = {
  "a cut has what was written since the last commit": cutsWhatWasWritten,
  "T17: it reads as it was cut, and what comes later is the next one's": readsAsItWasCut,
  "T22: what is given back travels with the next": keepsWhatIsGivenBack,
  "what is staged is so until a commit, or until it is lost": keepsWhatIsStaged,
  "what is suspect is compared, and what differs travels": comparesWhatIsSuspect,
};

export function runVmTrackerContract(
  t: Test,
  name: string,
  make: (t: Test) => Promise<VmTrackerScene>,
): void {
  for (const [what, check] of Object.entries(CHECKS)) {
    void t.test(`${name}: ${what}`, async (t) => check(t, await make(t)));
  }
}
