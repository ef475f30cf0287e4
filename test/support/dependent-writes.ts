/**
 * Chains of dependent writes across two disks, and what any instant of them may
 * look like. Step s of a chain writes a run of blocks on disk 0 and, when that
 * is acknowledged, a run on disk 1; then comes step s + 1. Which run is told by
 * the chain and the step alone, so that a disk's content follows from how far
 * each chain has come on it. The last chains write on one disk alone: they keep
 * each disk busy.
 */
import type { NbdClient } from "./nbd-client.js";
import { BLOCK_BYTES, readStamp, stampBlock, stampRun } from "./stamped-blocks.js";

export const CHAIN_BLOCKS = 48;
const DEPENDENT_CHAINS = 12;
const LONE_CHAINS_PER_DISK = 2;
export const CHAIN_COUNT = DEPENDENT_CHAINS + 2 * LONE_CHAINS_PER_DISK;
const MAX_RUN_BLOCKS = 3;
const DISKS = [0, 1] as const;

interface Run {
  readonly firstBlock: number;
  readonly blockCount: number;
}

/** How far a chain has come, by disk. */
export type Progress = readonly [number, number];

export class WriteChain {
  readonly index: number;
  readonly acked: [number, number] = [0, 0];
  readonly issued: [number, number] = [0, 0];
  readonly #clients: readonly NbdClient[];

  constructor(index: number, clients: readonly NbdClient[]) {
    this.index = index;
    this.#clients = clients;
  }

  async run(signal: AbortSignal): Promise<void> {
    for (let step = 1; !signal.aborted; step += 1) {
      for (const diskIndex of disksOf(this.index)) {
        const { firstBlock, blockCount } = runOf(this.index, step, diskIndex);
        const data = stampRun(diskIndex, firstBlock, blockCount, step);
        this.issued[diskIndex] = step;
        await this.#clients[diskIndex]?.write(firstBlock * BLOCK_BYTES, data);
        this.acked[diskIndex] = step;
      }
    }
  }
}

/** Judges images of the two disks, one instant after the other. */
export class DependencyOracle {
  /** By chain and disk: the newest step whose effect is in #expected. */
  readonly #reached = Array.from({ length: CHAIN_COUNT }, (): [number, number] => [0, 0]);
  readonly #expected = DISKS.map(() => new Uint32Array(CHAIN_COUNT * CHAIN_BLOCKS));
  readonly #content = Buffer.alloc(BLOCK_BYTES);

  /**
   * A sentence for each fault; none when the images are one instant of the
   * chains that is not older than `acked` and not newer than `issued`.
   */
  judge(
    images: readonly Buffer[],
    acked: readonly Progress[],
    issued: readonly Progress[],
  ): string[] {
    const faults: string[] = [];
    for (const chainIndex of this.#reached.keys()) {
      const found = DISKS.map((diskIndex) => newestStep(images[diskIndex], diskIndex, chainIndex));
      if (disksOf(chainIndex).length === 2) judgeDependency(chainIndex, found, faults);
      for (const diskIndex of DISKS) {
        const step = found[diskIndex] ?? 0;
        const due = acked[chainIndex]?.[diskIndex] ?? 0;
        const most = issued[chainIndex]?.[diskIndex] ?? 0;
        if (step < due || step > most) {
          faults.push(
            `chain ${chainIndex}, disk ${diskIndex}: step ${step}, not ${due} to ${most}`,
          );
        }
        this.#advance(chainIndex, diskIndex, step);
      }
    }
    for (const diskIndex of DISKS) this.#judgeBlocks(images[diskIndex], diskIndex, faults);
    return faults;
  }

  #advance(chainIndex: number, diskIndex: 0 | 1, step: number): void {
    const reached = this.#reached[chainIndex];
    if (reached === undefined) return;
    for (let next = reached[diskIndex] + 1; next <= step; next += 1) {
      const { firstBlock, blockCount } = runOf(chainIndex, next, diskIndex);
      this.#expected[diskIndex]?.fill(next, firstBlock, firstBlock + blockCount);
    }
    reached[diskIndex] = Math.max(step, reached[diskIndex]);
  }

  #judgeBlocks(image: Buffer | undefined, diskIndex: number, faults: string[]): void {
    const expected = this.#expected[diskIndex];
    if (image === undefined || expected === undefined) throw new RangeError("no such disk");
    for (const [blockIndex, sequence] of expected.entries()) {
      if (sequence === 0) this.#content.fill(0);
      else stampBlock({ diskIndex, blockIndex, sequence }, this.#content);
      const at = blockIndex * BLOCK_BYTES;
      if (this.#content.compare(image, at, at + BLOCK_BYTES) === 0) continue;
      const found = readStamp(image.subarray(at, at + BLOCK_BYTES))?.sequence ?? "nothing whole";
      faults.push(`block ${blockIndex} of disk ${diskIndex} is of ${found}, not of ${sequence}`);
    }
  }
}

function judgeDependency(chainIndex: number, found: readonly number[], faults: string[]): void {
  const [a = 0, b = 0] = found;
  if (b > a) faults.push(`chain ${chainIndex}: write B of step ${b} without its A (${a})`);
  if (a > b + 1) faults.push(`chain ${chainIndex}: step ${a} has begun, B of ${a - 1} is lost`);
}

function disksOf(chainIndex: number): readonly (0 | 1)[] {
  if (chainIndex < DEPENDENT_CHAINS) return DISKS;
  return chainIndex % 2 === 0 ? [0] : [1];
}

function runOf(chainIndex: number, step: number, diskIndex: number): Run {
  let mixed = Math.imul(step * 2 + diskIndex + 1, 0x9e3779b1) ^ Math.imul(chainIndex, 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
  const hash = (mixed ^ (mixed >>> 13)) >>> 0;
  const blockCount = 1 + (hash % MAX_RUN_BLOCKS);
  const place = (hash >>> 8) % (CHAIN_BLOCKS - blockCount + 1);
  return { firstBlock: chainIndex * CHAIN_BLOCKS + place, blockCount };
}

function newestStep(image: Buffer | undefined, diskIndex: number, chainIndex: number): number {
  let newest = 0;
  const first = chainIndex * CHAIN_BLOCKS;
  for (let blockIndex = first; blockIndex < first + CHAIN_BLOCKS; blockIndex += 1) {
    const at = blockIndex * BLOCK_BYTES;
    const stamp = image === undefined ? null : readStamp(image.subarray(at, at + BLOCK_BYTES));
    const isInPlace = stamp?.diskIndex === diskIndex && stamp.blockIndex === blockIndex;
    if (isInPlace) newest = Math.max(newest, stamp.sequence);
  }
  return newest;
}
