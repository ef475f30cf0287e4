/**
 * What a disk must hold, the naive way: one byte a byte, and a second array that
 * says which of them are known. A range that was trimmed is unknown until it is
 * written again. Cost: two bytes of memory a byte of the area.
 */
export class ByteModel {
  readonly #bytes: Buffer;
  readonly #known: Buffer;

  constructor(content: Buffer) {
    this.#bytes = Buffer.from(content);
    this.#known = Buffer.alloc(content.length, 1);
  }

  write(at: number, data: Buffer): void {
    data.copy(this.#bytes, at);
    this.#known.fill(1, at, at + data.length);
  }

  zero(at: number, length: number): void {
    this.#bytes.fill(0, at, at + length);
    this.#known.fill(1, at, at + length);
  }

  trim(at: number, length: number): void {
    this.#known.fill(0, at, at + length);
  }

  /** The first place at which `data`, read at `at`, is not what it must be; null if none. */
  firstWrong(at: number, data: Buffer): number | null {
    if (data.equals(this.#bytes.subarray(at, at + data.length))) return null;
    for (const [index, byte] of data.entries()) {
      if (this.#known[at + index] === 1 && byte !== this.#bytes[at + index]) return at + index;
    }
    return null;
  }

  /** Whether all of it is known and zero, or unknown. */
  mayBeZero(at: number, length: number): boolean {
    for (let index = at; index < at + length; index += 1) {
      if (this.#known[index] === 1 && this.#bytes[index] !== 0) return false;
    }
    return true;
  }
}
