import { BLOCK_COUNT, type Blocks, ExpectedDisks } from "./scene.js";

/** What point n of a numbered chain changes; some of it to zeroes. */
export function blocksOfPoint(sequence: number): Blocks {
  const value = (sequence * 7) % 251;
  return {
    0: { [sequence % BLOCK_COUNT]: value, [(sequence * 5) % BLOCK_COUNT]: sequence % 3 },
    1: { [(sequence * 3) % BLOCK_COUNT]: value },
  };
}

export function contentOfPoint(sequence: number): ExpectedDisks {
  let disks = new ExpectedDisks();
  for (let n = 1; n <= sequence; n += 1) disks = disks.with(blocksOfPoint(n));
  return disks;
}
