import { SeededRandom } from "../../support/seeded-random.js";

/** Bytes that differ at every place and for every seed; none of their blocks is zero. */
export function pattern(lengthBytes: number, seed: number): Buffer {
  const random = new SeededRandom(seed * 7919 + 1);
  const out = Buffer.alloc(lengthBytes);
  const words = lengthBytes - (lengthBytes % 4);
  for (let at = 0; at < words; at += 4) out.writeUInt32LE(random.below(0xffffffff) + 1, at);
  for (let at = words; at < lengthBytes; at += 1) out[at] = 1 + random.below(255);
  return out;
}
