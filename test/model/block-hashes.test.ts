import t from "tap";
import { compareBlocks, HASH_BYTES } from "#lib/model/block-hashes.js";

const BLOCK = 4096;

/** A hash a block: its number, and all zeroes for those with a block that is missing. */
function hashesWithout(missing: number) {
  return async ([offset = 0, length = 0]: readonly number[], blockBytes: number) => {
    const blocks = Array.from({ length: length / blockBytes }, (_, i) => offset / blockBytes + i);
    const hashes = blocks.map((block) => {
      const isThere = block !== Math.floor((missing * BLOCK) / blockBytes);
      return new Uint8Array(HASH_BYTES).fill(isThere ? block + 1 : 0);
    });
    return Buffer.concat(hashes);
  };
}

void t.test("what neither side can read is not the same on both", async (t) => {
  const extents = [0, 32 * BLOCK];
  const sides = hashesWithout(17);
  const { equal, different } = await compareBlocks(extents, BLOCK, sides, sides);
  t.same(different, [17 * BLOCK, BLOCK]);
  t.same(equal, [0, 16 * BLOCK, 16 * BLOCK, BLOCK, 18 * BLOCK, 14 * BLOCK]);
});
