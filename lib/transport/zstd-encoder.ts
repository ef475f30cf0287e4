/**
 * Streaming zstd compression. Its calls block: only for worker threads.
 *
 * Output goes into buffers of OUTPUT_BYTES that are handed on when full, and
 * written again only after release(); the context (about 1 MiB at level 1) is
 * kept between streams.
 */
import zstd from "zstd-napi/binding.js";
import type { SegmentEncoder } from "./content-coding.js";

const OUTPUT_BYTES = 256 * 1024;
const MAX_SPARE_BUFFERS = 8;
const NOTHING = new Uint8Array(0);

export class ZstdEncoder implements SegmentEncoder {
  readonly #context = new zstd.CCtx();
  readonly #spare: Buffer[] = [];
  #output: Buffer = Buffer.alloc(0);
  #filledBytes = 0;

  /** Begins a stream, whatever became of the one before. */
  start(level: number): void {
    this.#context.reset(zstd.ResetDirective.sessionAndParameters);
    this.#context.setParameter(zstd.CParameter.compressionLevel, level);
    this.#renewOutput();
  }

  /** All of `input` is consumed when the generator ends. */
  *push(input: Uint8Array): Generator<Buffer> {
    let rest = input;
    while (rest.length > 0) {
      const [, producedBytes, consumedBytes] = this.#step(rest, zstd.EndDirective.continue);
      rest = rest.subarray(consumedBytes);
      this.#filledBytes += producedBytes;
      if (this.#filledBytes === OUTPUT_BYTES) yield this.#takeOutput();
    }
  }

  *end(): Generator<Buffer> {
    for (;;) {
      const [leftBytes, producedBytes] = this.#step(NOTHING, zstd.EndDirective.end);
      this.#filledBytes += producedBytes;
      if (this.#filledBytes > 0) yield this.#takeOutput();
      if (leftBytes === 0) return;
    }
  }

  /** Of a piece that push() or end() gave and nobody reads any more; also of a former stream. */
  release(piece: Buffer): void {
    if (this.#spare.length < MAX_SPARE_BUFFERS) this.#spare.push(Buffer.from(piece.buffer));
  }

  #step(input: Uint8Array, directive: zstd.EndDirective): [number, number, number] {
    return this.#context.compressStream2(
      this.#output.subarray(this.#filledBytes),
      input,
      directive,
    );
  }

  #takeOutput(): Buffer {
    const taken = this.#output.subarray(0, this.#filledBytes);
    this.#renewOutput();
    return taken;
  }

  #renewOutput(): void {
    this.#output = this.#spare.pop() ?? Buffer.allocUnsafeSlow(OUTPUT_BYTES);
    this.#filledBytes = 0;
  }
}
