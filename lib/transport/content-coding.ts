/** How a segment's record bytes travel: the value of Content-Encoding. */
import { TidemarkError } from "../model/errors.js";

export const CONTENT_CODINGS = ["zstd", "identity"] as const;
export type ContentCoding = (typeof CONTENT_CODINGS)[number];

export function parseContentCoding(text: string): ContentCoding {
  const coding = CONTENT_CODINGS.find((known) => known === text);
  if (coding !== undefined) return coding;
  throw new TidemarkError(
    "UNSUPPORTED",
    `Cannot receive a segment: because its content encoding is ${JSON.stringify(text.slice(0, 20))}, not "zstd" or "identity".`,
  );
}

/** One stream after another; what push() and end() yield stays as it is until it is released. */
export interface SegmentEncoder {
  push(recordBytes: Uint8Array): Iterable<Buffer>;
  end(): Iterable<Buffer>;
  release(piece: Buffer): void;
}

export interface SegmentDecoder {
  /** Begins a stream of at most `limitBytes` of output. */
  start(limitBytes: number): void;
  push(wireBytes: Uint8Array): Iterable<Uint8Array>;
  /** What is left of it. TRUNCATED. */
  end(): Iterable<Uint8Array>;
}

/** The source's memory is used again: what is on its way is a copy. */
export const identityEncoder: SegmentEncoder = {
  *push(recordBytes) {
    yield Buffer.from(recordBytes);
  },
  *end() {},
  release() {},
};

/** Whether it is whole, its records say. */
export class IdentityDecoder implements SegmentDecoder {
  #leftBytes = 0;

  start(limitBytes: number): void {
    this.#leftBytes = limitBytes;
  }

  *push(wireBytes: Uint8Array): Generator<Uint8Array> {
    this.#leftBytes -= wireBytes.length;
    if (this.#leftBytes < 0) {
      throw new TidemarkError(
        "LIMIT_REACHED",
        "Cannot receive a segment: because it is longer than its stated content can be.",
        { hint: "Report this: the sender states one size and sends another." },
      );
    }
    yield wireBytes;
  }

  *end(): Generator<Uint8Array> {}
}
