/** Marks that are too scattered are rounded out, and none is left out. */
import t from "tap";
import { boundedExtents } from "#lib/model/bounded-extents.js";
import { SeededRandom } from "../support/seeded-random.js";

const GRAIN = 4096;

function scattered(random: () => number, count: number): number[] {
  const extents: number[] = [];
  for (let at = 0, left = count; left > 0; left -= 1) {
    at += GRAIN * (1 + Math.floor(random() * 5));
    const length = GRAIN * (1 + Math.floor(random() * 3));
    extents.push(at, length);
    at += length;
  }
  return extents;
}

function blocksOf(extents: readonly number[]): Set<number> {
  const blocks = new Set<number>();
  for (let i = 0; i + 1 < extents.length; i += 2) {
    const [begin = 0, length = 0] = extents.slice(i, i + 2);
    for (let at = begin; at < begin + length; at += GRAIN) blocks.add(at / GRAIN);
  }
  return blocks;
}

void t.test("all is there, and no more extents than the limit", (t) => {
  const seeded = new SeededRandom(7);
  const random = () => seeded.below(1_000) / 1_000;
  for (let round = 0; round < 100; round += 1) {
    const all = scattered(random, 1 + Math.floor(random() * 200));
    const cut = 2 * Math.floor(random() * (all.length / 2));
    const limit = 1 + Math.floor(random() * 60);
    const pages = [all.slice(0, cut), all.slice(cut)];
    const { extents, isExact } = boundedExtents(pages, GRAIN, limit);
    t.ok(extents.length <= 2 * limit, `${round}`);
    const found = blocksOf(extents);
    t.ok(
      [...blocksOf(all)].every((block) => found.has(block)),
      `${round}: none is lost`,
    );
    t.equal(isExact, found.size === blocksOf(all).size, `${round}`);
  }
  t.end();
});
