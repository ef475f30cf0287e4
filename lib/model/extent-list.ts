/** Sets of ranges as lists: sorted, not overlapping, neighbours joined. */
import type { ExtentList } from "./block-hashes.js";

/** Of ranges in any order, which may overlap. */
export function unionOf(...lists: readonly ExtentList[]): ExtentList {
  const ranges = lists.flatMap(pairsOf).sort(([a], [b]) => a - b);
  const union: number[] = [];
  let endBytes = -1;
  for (const [begin, end] of ranges) {
    if (begin > endBytes) {
      union.push(begin, end - begin);
      endBytes = end;
    } else if (end > endBytes) {
      union[union.length - 1] = end - (union.at(-2) ?? 0);
      endBytes = end;
    }
  }
  return union;
}

export function subtract(from: ExtentList, removed: ExtentList): ExtentList {
  const holes = pairsOf(removed);
  const left: number[] = [];
  let hole = 0;
  for (const [begin, end] of pairsOf(from)) {
    let at = begin;
    while (hole < holes.length && (holes[hole]?.[1] ?? 0) <= at) hole += 1;
    for (let next = hole; at < end; next += 1) {
      const [holeBegin, holeEnd] = holes[next] ?? [Infinity, Infinity];
      const pieceEnd = Math.min(end, holeBegin);
      if (pieceEnd > at) left.push(at, pieceEnd - at);
      at = Math.max(at, holeEnd);
    }
  }
  return left;
}

export function intersect(a: ExtentList, b: ExtentList): ExtentList {
  return subtract(a, subtract(a, b));
}

function pairsOf(extents: ExtentList): [begin: number, end: number][] {
  const pairs: [number, number][] = [];
  for (let i = 0; i + 1 < extents.length; i += 2) {
    const [begin = 0, length = 0] = [extents[i], extents[i + 1]];
    if (length > 0) pairs.push([begin, begin + length]);
  }
  return pairs;
}
