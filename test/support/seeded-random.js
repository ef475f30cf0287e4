/** xorshift32: the same run of numbers for the same seed. */
export class SeededRandom {
    #state;
    constructor(seed) {
        this.#state = (seed | 0) === 0 ? 0x2545f491 : seed | 0;
    }
    /** A whole number in [0, limit). */
    below(limit) {
        this.#state ^= this.#state << 13;
        this.#state ^= this.#state >>> 17;
        this.#state ^= this.#state << 5;
        return (this.#state >>> 0) % limit;
    }
}
