/**
 * Streaming zstd decompression of hostile input: exactly one frame, a bounded
 * window, a bounded output. Its calls block: only for worker threads.
 *
 * Output goes into buffers of OUTPUT_BYTES, piece after piece, each byte
 * written once: a piece stays as it is for as long as somebody holds it.
 */
import zstd from "zstd-napi/binding.js";
import { TidemarkError } from "../model/errors.js";
import { MAX_WINDOW_LOG } from "./limits.js";

const OUTPUT_BYTES = 256 * 1024;
const LEAST_ROOM_BYTES = 32 * 1024;

export class ZstdDecoder {
  readonly #context = new zstd.DCtx();
  #output = Buffer.alloc(0);
  #filledBytes = 0;
  #limitBytes = 0;
  #totalBytes = 0;
  #frameEnded = false;

  /** Begins a stream of at most `limitBytes` of output, whatever became of the one before. */
  start(limitBytes: number): void {
    this.#context.reset(zstd.ResetDirective.sessionAndParameters);
    this.#context.setParameter(zstd.DParameter.windowLogMax, MAX_WINDOW_LOG);
    this.#limitBytes = limitBytes;
    this.#totalBytes = 0;
    this.#frameEnded = false;
  }

  /** CORRUPT, LIMIT_REACHED. */
  *push(input: Uint8Array): Generator<Uint8Array> {
    let rest = input;
    for (;;) {
      if (this.#frameEnded) {
        if (rest.length > 0) throw corrupt("something follows its end");
        return;
      }
      const room = this.#room();
      const [pendingBytes, producedBytes, consumedBytes] = this.#step(room, rest);
      rest = rest.subarray(consumedBytes);
      this.#frameEnded = pendingBytes === 0;
      if (producedBytes > 0) yield this.#take(producedBytes);
      if (rest.length === 0 && producedBytes < room.length) return;
    }
  }

  /** TRUNCATED. */
  end(): void {
    if (this.#frameEnded) return;
    throw new TidemarkError(
      "TRUNCATED",
      "Cannot decompress the segment: because its zstd stream ends too early.",
      { retryable: true },
    );
  }

  #room(): Buffer {
    if (this.#output.length - this.#filledBytes < LEAST_ROOM_BYTES) {
      this.#output = Buffer.allocUnsafeSlow(OUTPUT_BYTES);
      this.#filledBytes = 0;
    }
    return this.#output.subarray(this.#filledBytes);
  }

  #step(room: Buffer, input: Uint8Array): [number, number, number] {
    try {
      return this.#context.decompressStream(room, input);
    } catch (cause) {
      throw corrupt((cause as Error).message, cause);
    }
  }

  #take(producedBytes: number): Uint8Array {
    this.#totalBytes += producedBytes;
    if (this.#totalBytes > this.#limitBytes) {
      throw new TidemarkError(
        "LIMIT_REACHED",
        `Cannot decompress the segment: because it holds more than the ${this.#limitBytes} bytes that its stated content can take.`,
        { hint: "Report this: the sender states one size and sends another." },
      );
    }
    const from = this.#filledBytes;
    this.#filledBytes += producedBytes;
    return this.#output.subarray(from, this.#filledBytes);
  }
}

function corrupt(reason: string, cause?: unknown): TidemarkError {
  return new TidemarkError(
    "CORRUPT",
    `Cannot decompress the segment: because its zstd stream is damaged (${reason}).`,
    { cause },
  );
}
