import { SeededRandom } from "./seeded-random.js";

/** Numbers in [0, count), the k-th most frequent with weight 1 / k^skew, spread over the range. */
export class Zipf {
  readonly #random: SeededRandom;
  readonly #cumulated: Float64Array;
  readonly #places: Uint32Array;

  constructor(count: number, skew: number, seed: number) {
    this.#random = new SeededRandom(seed);
    this.#cumulated = new Float64Array(count);
    this.#places = new Uint32Array(count);
    let sum = 0;
    for (let rank = 0; rank < count; rank += 1) {
      sum += 1 / (rank + 1) ** skew;
      this.#cumulated[rank] = sum;
      const other = this.#random.below(rank + 1);
      this.#places[rank] = this.#places[other] ?? 0;
      this.#places[other] = rank;
    }
  }

  next(): number {
    const limit = 2 ** 31;
    const wanted = (this.#random.below(limit) / limit) * (this.#cumulated.at(-1) ?? 0);
    let [low, high] = [0, this.#cumulated.length - 1];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#cumulated[middle] ?? 0) > wanted) high = middle;
      else low = middle + 1;
    }
    return this.#places[low] ?? 0;
  }
}
