import t from "tap";
import { compareBlocks, HASH_BYTES } from "#lib/model/block-hashes.js";

const BLOCK = 4096;

/** A hash a block: its number, and all zeroes for those that have none. */
function hashesWithout(missing: readonly number[]) {
  return async (extents: readonly number[], blockBytes: number): Promise<Uint8Array> => {
    const hashes: Uint8Array[] = [];
    for (let index = 0; index < extents.length; index += 2) {
      const [offset = 0, length = 0] = [extents[index], extents[index + 1]];
      for (let at = offset; at < offset + length; at += blockBytes) {
        const blocks = Array.from({ length: blockBytes / BLOCK }, (_, i) => at / BLOCK + i);
        const isThere = blocks.every((block) => !missing.includes(block));
        hashes.push(new Uint8Array(HASH_BYTES).fill(isThere ? at / BLOCK + 1 : 0));
      }
    }
    return Buffer.concat(hashes);
  };
}

void t.test("what neither side can read is not the same on both", async (t) => {
  const extents = [0, 32 * BLOCK];
  const sides = hashesWithout([17]);
  const { equal, different } = await compareBlocks(extents, BLOCK, sides, sides);
  t.same(different, [17 * BLOCK, BLOCK]);
  t.same(equal, [0, 16 * BLOCK, 16 * BLOCK, BLOCK, 18 * BLOCK, 14 * BLOCK]);
});
