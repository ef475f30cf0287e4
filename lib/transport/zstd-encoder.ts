/**
 * Streaming zstd compression. Its calls block: only for worker threads.
 *
 * Output goes into buffers of OUTPUT_BYTES that are handed on when full and
 * never written again; the context (about 1 MiB at level 1) is kept between
 * streams.
 */
import zstd from "zstd-napi/binding.js";

const OUTPUT_BYTES = 128 * 1024;
const NOTHING = new Uint8Array(0);

export class ZstdEncoder {
  readonly #context = new zstd.CCtx();
  #output = Buffer.alloc(0);
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
    this.#output = Buffer.allocUnsafeSlow(OUTPUT_BYTES);
    this.#filledBytes = 0;
  }
}
