import { randomBytes } from "node:crypto";
import { ZstdDecoder } from "#lib/transport/zstd-decoder.js";
import { ZstdEncoder } from "#lib/transport/zstd-encoder.js";
import fc from "fast-check";
import t from "tap";
import zstd from "zstd-napi";

function encode(pieces: readonly Uint8Array[], level = 1, encoder = new ZstdEncoder()): Buffer {
  encoder.start(level);
  const output = pieces.flatMap((piece) => [...encoder.push(piece)]);
  return Buffer.concat([...output, ...encoder.end()]);
}

function decode(
  bytes: Uint8Array,
  limitBytes: number,
  stepBytes = 1000,
  decoder = new ZstdDecoder(),
): Buffer {
  decoder.start(limitBytes);
  const output: Uint8Array[] = [];
  for (let from = 0; from < bytes.length; from += stepBytes) {
    for (const piece of decoder.push(bytes.subarray(from, from + stepBytes))) {
      output.push(Buffer.from(piece));
    }
  }
  for (const piece of decoder.end()) output.push(Buffer.from(piece));
  return Buffer.concat(output);
}

const MIB = 1024 * 1024;
const mixed = [randomBytes(300_000), Buffer.alloc(2 * MIB), randomBytes(7)];
const plain = Buffer.concat(mixed);

void t.test("what is pushed in pieces comes out whole, whatever the pieces", async (t) => {
  const encoder = new ZstdEncoder();
  const decoder = new ZstdDecoder();
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 5000 }), { maxLength: 20 }),
      fc.integer({ min: 1, max: 19 }),
      fc.integer({ min: 1, max: 4000 }),
      (pieces, level, stepBytes) => {
        const whole = Buffer.concat(pieces);
        const compressed = encode(pieces, level, encoder);
        t.ok(decode(compressed, whole.length, stepBytes, decoder).equals(whole));
      },
    ),
    { numRuns: 50 },
  );
});

void t.test("large pieces, of both kinds", async (t) => {
  t.ok(decode(encode(mixed), plain.length, 16 * 1024).equals(plain));
  t.ok(decode(encode(mixed, 19), plain.length, MIB).equals(plain));
  t.ok(zstd.decompress(encode(mixed)).equals(plain), "as one frame to anybody's decoder");
});

void t.test("only what was released is written again", async (t) => {
  const encoder = new ZstdEncoder();
  const kept: Buffer[] = [];
  const copies: Buffer[] = [];
  for (let stream = 0; stream < 3; stream += 1) {
    encoder.start(1);
    for (const piece of [...encoder.push(randomBytes(2 * MIB)), ...encoder.end()]) {
      kept.push(piece);
      copies.push(Buffer.from(piece));
    }
    const released = kept.splice(0, 2);
    copies.splice(0, 2);
    for (const piece of released) encoder.release(piece);
  }
  t.ok(kept.length > 10);
  t.ok(Buffer.concat(kept).equals(Buffer.concat(copies)));
});

void t.test("a context that broke off is good for the next stream", async (t) => {
  const encoder = new ZstdEncoder();
  encoder.start(3);
  for (const _ of encoder.push(plain)) break;
  t.ok(zstd.decompress(encode(mixed, 1, encoder)).equals(plain));
  const decoder = new ZstdDecoder();
  t.throws(() => decode(Buffer.from("no zstd at all"), 1000, 1000, decoder), { code: "CORRUPT" });
  t.ok(decode(encode(mixed), plain.length, 1000, decoder).equals(plain));
});

void t.test("a bomb ends at the limit, not at its size", async (t) => {
  const bomb = zstd.compress(Buffer.alloc(64 * MIB));
  t.ok(bomb.length < 10_000);
  const decoder = new ZstdDecoder();
  decoder.start(MIB);
  let handedOutBytes = 0;
  const swallow = (): void => {
    for (const piece of decoder.push(bomb)) handedOutBytes += piece.length;
    for (const piece of decoder.end()) handedOutBytes += piece.length;
  };
  t.throws(swallow, { code: "LIMIT_REACHED" });
  t.ok(handedOutBytes <= MIB);
});

void t.test("the limit itself is still good", async (t) => {
  t.equal(decode(encode([plain]), plain.length).length, plain.length);
  t.throws(() => decode(encode([plain]), plain.length - 1), { code: "LIMIT_REACHED" });
});

void t.test("a frame that asks for a large window is refused before it gets one", async (t) => {
  const compressor = new zstd.CompressStream({ compressionLevel: 1, windowLog: 27 });
  const pieces: Buffer[] = [];
  compressor.on("data", (piece: Buffer) => pieces.push(piece));
  compressor.write(plain);
  compressor.end();
  await new Promise((resolve) => compressor.once("end", resolve));
  t.throws(() => decode(Buffer.concat(pieces), plain.length), { code: "CORRUPT" });
});

void t.test(
  "what follows the frame is refused: bytes, another frame, a skippable one",
  async (t) => {
    const frame = encode(mixed);
    const skippable = Buffer.concat([Buffer.from("502a4d1804000000", "hex"), Buffer.alloc(4)]);
    for (const tail of [Buffer.from([0]), frame, skippable]) {
      const bytes = Buffer.concat([frame, tail]);
      t.throws(() => decode(bytes, 2 * plain.length), { code: "CORRUPT" });
      t.throws(() => decode(bytes, 2 * plain.length, bytes.length), { code: "CORRUPT" });
    }
    t.throws(() => decode(Buffer.concat([skippable, frame]), plain.length), { code: "CORRUPT" });
  },
);

void t.test("an early end is TRUNCATED", async (t) => {
  const frame = encode(mixed);
  for (const length of [0, 1, 10, frame.length - 1]) {
    t.throws(() => decode(frame.subarray(0, length), plain.length), { code: "TRUNCATED" });
  }
});
