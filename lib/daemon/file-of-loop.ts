import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";

export interface FileIdentity {
  readonly dev: number;
  readonly ino: number;
}

/** What a loop device, or a partition of one, shows the content of; null for any other device. */
export async function fileOfLoop(rdev: number, sysfs = "/sys"): Promise<FileIdentity | null> {
  const device = join(sysfs, "dev/block", `${majorOf(rdev)}:${minorOf(rdev)}`);
  for (const place of ["loop", "../loop"]) {
    const text = await readFile(`${device}/${place}/backing_file`, "utf8").catch(() => null);
    if (text === null) continue;
    return stat(text.replace(/\n$/, "")).catch(() => null);
  }
  return null;
}

/** As in <sys/sysmacros.h>. */
function majorOf(rdev: number): number {
  return Number((BigInt(rdev) >> 8n) & 0xfffn) | Number((BigInt(rdev) >> 32n) & 0xfffff000n);
}

function minorOf(rdev: number): number {
  return Number(BigInt(rdev) & 0xffn) | Number((BigInt(rdev) >> 12n) & 0xffffff00n);
}
