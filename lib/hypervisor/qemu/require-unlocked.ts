import { readFile, stat } from "node:fs/promises";
import { TidemarkError } from "../../model/errors.js";

/** QEMU's byte for "I write to it" (docs/image-locking.md). */
const WRITES_AT = 101;

/**
 * Throws unless QEMU alone has locked the image for writing. When QEMU finds another writer as
 * the mirror begins it does not refuse: it ends, and its guest with it (seen with 7.2).
 */
export async function requireUnlocked(imagePath: string): Promise<void> {
  const locks = (await readFile("/proc/locks", "utf8")).split("\n");
  const { dev, ino } = await stat(imagePath, { bigint: true });
  const file = `${hex(major(dev))}:${hex(minor(dev))}:${ino}`;
  const writers = locks.filter((line) => holdsByte(line, file)).length;
  if (writers <= 1) return;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot insert the filter before ${imagePath}: because beside QEMU another process has locked the image for writing.`,
    { hint: 'Open the tracked disk with lock "none", and lock it "exclusive" afterwards.' },
  );
}

/** A line is "4: OFDLCK ADVISORY READ -1 fe:00:2220088 100 101"; one of a waiter has "->" at its begin. */
function holdsByte(line: string, file: string): boolean {
  const [, kind, , , , place, from, to] = line.trim().split(/\s+/);
  if (kind !== "OFDLCK" || place !== file) return false;
  return Number(from) <= WRITES_AT && (to === "EOF" || WRITES_AT <= Number(to));
}

const major = (dev: bigint) => ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
const minor = (dev: bigint) => (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n);

function hex(value: bigint): string {
  return value.toString(16).padStart(2, "0");
}
