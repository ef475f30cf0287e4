import assert from "node:assert/strict";

/**
 * Gives whole ranges of a stream that comes in pieces.
 *
 * Held: the rest of the present piece, which is its owner's memory, and the
 * part of a range that earlier pieces began, copied into memory that is used
 * again. A range that lies within one piece is not copied.
 */
export class PieceReader {
  #piece: Buffer = Buffer.alloc(0);
  #begun: Buffer = Buffer.alloc(0);
  #begunBytes = 0;

  /** Only when the piece before has been read or begun to its end. */
  push(piece: Uint8Array): void {
    this.#piece = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
  }

  get isEmpty(): boolean {
    return this.#begunBytes + this.#piece.length === 0;
  }

  /**
   * The next `lengthBytes`, valid until more is peeked at or pushed; null when
   * they have not all arrived: then the piece is used up.
   */
  peek(lengthBytes: number): Buffer | null {
    if (this.#begunBytes === 0 && this.#piece.length >= lengthBytes) {
      return this.#piece.subarray(0, lengthBytes);
    }
    if (this.#begunBytes < lengthBytes) this.#fill(lengthBytes);
    return this.#begunBytes >= lengthBytes ? this.#begun.subarray(0, lengthBytes) : null;
  }

  /** All that peek() answered last; its bytes stay valid as long. */
  skip(lengthBytes: number): void {
    assert(this.#begunBytes === 0 || this.#begunBytes === lengthBytes);
    if (this.#begunBytes > 0) this.#begunBytes = 0;
    else this.#piece = this.#piece.subarray(lengthBytes);
  }

  /** What of the present piece is not read; the reader forgets it. */
  takeRest(): Buffer {
    const rest = this.#piece;
    this.#piece = Buffer.alloc(0);
    return rest;
  }

  #fill(lengthBytes: number): void {
    if (this.#begun.length < lengthBytes) {
      const larger = Buffer.allocUnsafeSlow(lengthBytes);
      this.#begun.copy(larger, 0, 0, this.#begunBytes);
      this.#begun = larger;
    }
    const wantedBytes = Math.min(lengthBytes - this.#begunBytes, this.#piece.length);
    this.#piece.copy(this.#begun, this.#begunBytes, 0, wantedBytes);
    this.#begunBytes += wantedBytes;
    this.#piece = this.#piece.subarray(wantedBytes);
  }
}
