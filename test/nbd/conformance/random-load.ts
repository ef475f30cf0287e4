/**
 * Random reads and writes of odd sizes at odd places against the naive model:
 * batches in flight together, whose ranges do not meet, so that the order in
 * which the store carries them out does not matter.
 */
import { SeededRandom } from "../../support/seeded-random.js";
import { ByteModel } from "./byte-model.js";
import { pattern } from "./pattern.js";

export interface ByteStore {
  /** All offsets and lengths are multiples of it. */
  readonly blockBytes: number;
  read(at: number, length: number): Promise<Buffer>;
  write(at: number, data: Buffer): Promise<void>;
  /** False when it was refused and nothing changed. Null where there is no such thing. */
  readonly zero: ((at: number, length: number, random: SeededRandom) => Promise<boolean>) | null;
  readonly trim: ((at: number, length: number) => Promise<boolean>) | null;
  readonly flush: (() => Promise<void>) | null;
  /** Ranges that are said to be zero. */
  readonly zeroes: ((at: number, length: number) => Promise<Range[]>) | null;
}

export interface Range {
  readonly at: number;
  readonly length: number;
}

export interface LoadSettings {
  readonly seed: number;
  readonly operations: number;
  readonly areaBytes: number;
  readonly inFlight: number;
}

type Operation = (range: Range) => Promise<string | null>;

class RandomLoad {
  readonly #random: SeededRandom;
  readonly #model: ByteModel;
  readonly #store: ByteStore;
  #written = 0;

  constructor(store: ByteStore, content: Buffer, seed: number) {
    this.#store = store;
    this.#model = new ByteModel(content);
    this.#random = new SeededRandom(seed);
  }

  async batch(areaBytes: number, inFlight: number): Promise<string | null> {
    const started = this.#ranges(areaBytes, inFlight).map((range) => this.#any()(range));
    const wrong = (await Promise.all(started)).filter((text) => text !== null);
    return wrong[0] ?? null;
  }

  read: Operation = async ({ at, length }) => {
    const wrongAt = this.#model.firstWrong(at, await this.#store.read(at, length));
    return wrongAt === null ? null : `a read of ${length} bytes at ${at} is wrong at ${wrongAt}`;
  };

  #write: Operation = async ({ at, length }) => {
    this.#written += 1;
    const data = pattern(length, this.#written);
    await this.#store.write(at, data);
    this.#model.write(at, data);
    return null;
  };

  #zero: Operation = async ({ at, length }) => {
    if ((await this.#store.zero?.(at, length, this.#random)) === true) this.#model.zero(at, length);
    return null;
  };

  #trim: Operation = async ({ at, length }) => {
    if ((await this.#store.trim?.(at, length)) === true) this.#model.trim(at, length);
    return null;
  };

  #flush: Operation = async () => {
    await this.#store.flush?.();
    return null;
  };

  #zeroes: Operation = async (asked) => {
    for (const { at, length } of (await this.#store.zeroes?.(asked.at, asked.length)) ?? []) {
      if (!this.#model.mayBeZero(at, length))
        return `${length} bytes at ${at} are said to be zero and are not`;
    }
    return null;
  };

  #any(): Operation {
    const roll = this.#random.below(100);
    if (roll < 35) return this.read;
    if (roll < 70) return this.#write;
    if (roll < 82) return this.#zero;
    if (roll < 90) return this.#trim;
    return roll < 95 ? this.#zeroes : this.#flush;
  }

  /** One range in each of `count` parts of the area; where the parts begin differs each time. */
  #ranges(areaBytes: number, count: number): Range[] {
    const block = this.#store.blockBytes;
    const partBlocks = Math.floor(areaBytes / block / count);
    const shiftBlocks = this.#random.below(partBlocks);
    return Array.from({ length: count - 1 }, (_, index) => {
      const longest =
        this.#random.below(4) === 0 ? partBlocks : Math.min(partBlocks, Math.ceil(9000 / block));
      const lengthBlocks = 1 + this.#random.below(longest);
      const slack = partBlocks - lengthBlocks;
      const from = shiftBlocks + index * partBlocks + (slack > 0 ? this.#random.below(slack) : 0);
      return { at: from * block, length: lengthBlocks * block };
    });
  }
}

/** What was wrong, or null. */
export async function runRandomLoad(
  store: ByteStore,
  settings: LoadSettings,
): Promise<string | null> {
  const { seed, operations, areaBytes, inFlight } = settings;
  const load = new RandomLoad(store, await store.read(0, areaBytes), seed);
  for (let done = 0; done < operations; done += inFlight - 1) {
    const wrong = await load.batch(areaBytes, inFlight);
    if (wrong !== null) return `${wrong} (operation ${done}, seed ${seed})`;
  }
  await store.flush?.();
  const wrong = await load.read({ at: 0, length: areaBytes });
  return wrong === null ? null : `at the end: ${wrong} (seed ${seed})`;
}
