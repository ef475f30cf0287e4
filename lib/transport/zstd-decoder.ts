/**
 * Streaming zstd decompression of hostile input: exactly one frame, a bounded
 * window, a bounded output. Its calls block: only for worker threads.
 *
 * All output goes through one buffer, which is handed out when it is full: a
 * piece is valid until the next one is asked for.
 */
import zstd from "zstd-napi/binding.js";
import { TidemarkError } from "../model/errors.js";
import type { SegmentDecoder } from "./content-coding.js";
import { MAX_WINDOW_LOG } from "./limits.js";

/** What arrives in pieces of a TLS record is gathered: a call costs what a record's content does. */
const INPUT_BYTES = 128 * 1024;
const OUTPUT_BYTES = 256 * 1024;
const NOTHING: readonly Uint8Array[] = [];

export class ZstdDecoder implements SegmentDecoder {
  readonly #context = new zstd.DCtx();
  readonly #input = Buffer.allocUnsafeSlow(INPUT_BYTES);
  readonly #output = Buffer.allocUnsafeSlow(OUTPUT_BYTES);
  #gatheredBytes = 0;
  #filledBytes = 0;
  #limitBytes = 0;
  #totalBytes = 0;
  #frameEnded = false;

  /** Begins a stream of at most `limitBytes` of output, whatever became of the one before. */
  start(limitBytes: number): void {
    this.#context.reset(zstd.ResetDirective.sessionAndParameters);
    this.#context.setParameter(zstd.DParameter.windowLogMax, MAX_WINDOW_LOG);
    this.#limitBytes = limitBytes;
    this.#gatheredBytes = 0;
    this.#filledBytes = 0;
    this.#totalBytes = 0;
    this.#frameEnded = false;
  }

  /** CORRUPT, LIMIT_REACHED. What does not fill a buffer comes, or fails, with a later push or the end. */
  push(input: Uint8Array): Iterable<Uint8Array> {
    if (this.#gatheredBytes + input.length > INPUT_BYTES) return this.#decodeBoth(input);
    this.#gather(input);
    return NOTHING;
  }

  /** TRUNCATED. */
  *end(): Generator<Uint8Array> {
    yield* this.#decode(this.#takeGathered());
    if (!this.#frameEnded) {
      throw new TidemarkError(
        "TRUNCATED",
        "Cannot decompress the segment: because its zstd stream ends too early.",
        { retryable: true },
      );
    }
    if (this.#filledBytes > 0) yield this.#take();
  }

  *#decodeBoth(input: Uint8Array): Generator<Uint8Array> {
    yield* this.#decode(this.#takeGathered());
    if (input.length > INPUT_BYTES) yield* this.#decode(input);
    else this.#gather(input);
  }

  #gather(input: Uint8Array): void {
    this.#input.set(input, this.#gatheredBytes);
    this.#gatheredBytes += input.length;
  }

  #takeGathered(): Uint8Array {
    const gathered = this.#input.subarray(0, this.#gatheredBytes);
    this.#gatheredBytes = 0;
    return gathered;
  }

  *#decode(input: Uint8Array): Generator<Uint8Array> {
    let rest = input;
    for (;;) {
      if (this.#frameEnded) {
        if (rest.length > 0) throw corrupt("something follows its end");
        return;
      }
      const [pendingBytes, producedBytes, consumedBytes] = this.#step(rest);
      rest = rest.subarray(consumedBytes);
      this.#frameEnded = pendingBytes === 0;
      this.#count(producedBytes);
      if (this.#filledBytes === OUTPUT_BYTES) yield this.#take();
      else if (rest.length === 0) return;
    }
  }

  #step(input: Uint8Array): [number, number, number] {
    try {
      return this.#context.decompressStream(this.#output.subarray(this.#filledBytes), input);
    } catch (cause) {
      throw corrupt((cause as Error).message, cause);
    }
  }

  #count(producedBytes: number): void {
    this.#filledBytes += producedBytes;
    this.#totalBytes += producedBytes;
    if (this.#totalBytes <= this.#limitBytes) return;
    throw new TidemarkError(
      "LIMIT_REACHED",
      `Cannot decompress the segment: because it holds more than the ${this.#limitBytes} bytes that its stated content can take.`,
      { hint: "Report this: the sender states one size and sends another." },
    );
  }

  #take(): Uint8Array {
    const taken = this.#output.subarray(0, this.#filledBytes);
    this.#filledBytes = 0;
    return taken;
  }
}

function corrupt(reason: string, cause?: unknown): TidemarkError {
  return new TidemarkError(
    "CORRUPT",
    `Cannot decompress the segment: because its zstd stream is damaged (${reason}).`,
    { cause },
  );
}
