import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { open, readdir, readFile, readlink, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { isInstalled } from "./program.js";

export type TargetKind = "absent" | "directory" | "file" | "device" | "other";

/** What is known of the place that --disk names. Whatever could not be found out is in `unsure`. */
export interface TargetFacts {
  readonly path: string;
  readonly kind: TargetKind;
  readonly sizeBytes: number;
  /** Where it, or a part of it, is mounted. */
  readonly mountedAt: readonly string[];
  /** Swap, device mapper, md, loop devices, locks, processes that have it open. */
  readonly heldBy: readonly string[];
  /** A file system, partition table or other signature on it. */
  readonly signature: string | null;
  readonly unsure: readonly string[];
}

export async function gatherFacts(namedPath: string): Promise<TargetFacts> {
  const nothing = { sizeBytes: 0, mountedAt: [], heldBy: [], signature: null, unsure: [] };
  const path = await realpath(namedPath).catch(() => null);
  if (path === null) return { path: namedPath, kind: "absent", ...nothing };
  const found = await stat(path);
  if (found.isDirectory()) return { path, kind: "directory", ...nothing };
  if (!found.isFile() && !found.isBlockDevice()) return { path, kind: "other", ...nothing };
  const unsure: string[] = [];
  const kind = found.isFile() ? "file" : "device";
  const device = kind === "device" ? majorMinor(found.rdev) : null;
  const numbers = device === null ? [] : [device, ...(await partitionsOf(device))];
  return {
    path,
    kind,
    sizeBytes: await sizeOf(path, unsure),
    mountedAt: await mountsOf(numbers),
    heldBy: [
      ...(await exclusiveHolder(path, kind)),
      ...(await swapsAt(path, numbers)),
      ...(await holdersOf(numbers)),
      ...(await loopDevicesOn(path)),
      ...(await lockHolders(found.dev, found.ino)),
      ...(await openers(path)),
    ],
    signature: await signatureOf(path, unsure),
    unsure,
  };
}

/** The encoding of gnu_dev_makedev. */
function majorMinor(rdev: number): string {
  const wide = BigInt(rdev);
  const major = ((wide >> 8n) & 0xfffn) | ((wide >> 32n) & ~0xfffn);
  const minor = (wide & 0xffn) | ((wide >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

async function sizeOf(path: string, unsure: string[]): Promise<number> {
  try {
    const file = await open(path, "r");
    const { size } = await file.stat().finally(() => file.close());
    if (size > 0) return size;
  } catch (thrown) {
    unsure.push(`it cannot be read (${(thrown as NodeJS.ErrnoException).code ?? "unknown"})`);
  }
  const name = path.split("/").pop() ?? "";
  const sectors = await readFile(join("/sys/class/block", name, "size"), "utf8").catch(() => "0");
  return Number(sectors) * 512;
}

async function partitionsOf(device: string): Promise<string[]> {
  const folder = join("/sys/dev/block", device);
  const entries = await readdir(folder).catch(() => []);
  const numbers = entries.map((entry) =>
    readFile(join(folder, entry, "dev"), "utf8").catch(() => ""),
  );
  return (await Promise.all(numbers)).map((text) => text.trim()).filter((text) => text !== "");
}

async function mountsOf(numbers: readonly string[]): Promise<string[]> {
  const lines = (await readFile("/proc/self/mountinfo", "utf8")).trim().split("\n");
  return lines
    .map((line) => line.split(" "))
    .filter((fields) => numbers.includes(fields[2] ?? ""))
    .map((fields) => fields[4] ?? "");
}

/** The kernel's own word: O_EXCL on a block device fails while anything has claimed it. */
async function exclusiveHolder(path: string, kind: TargetKind): Promise<string[]> {
  if (kind !== "device") return [];
  try {
    await (await open(path, constants.O_RDONLY | constants.O_EXCL)).close();
    return [];
  } catch (thrown) {
    return [
      `the kernel (${(thrown as NodeJS.ErrnoException).code ?? "unknown"} on exclusive open)`,
    ];
  }
}

async function swapsAt(path: string, numbers: readonly string[]): Promise<string[]> {
  const lines = (await readFile("/proc/swaps", "utf8").catch(() => "")).trim().split("\n").slice(1);
  const paths = lines.map((line) => line.split(/\s/)[0] ?? "").filter((text) => text !== "");
  const isOurs = async (swap: string) => {
    const found = await stat(swap).catch(() => null);
    const number = found?.isBlockDevice() === true ? majorMinor(found.rdev) : "";
    return swap === path || numbers.includes(number);
  };
  const used = await Promise.all(paths.map(isOurs));
  return paths.filter((_path, index) => used[index]).map((swap) => `swap on ${swap}`);
}

async function holdersOf(numbers: readonly string[]): Promise<string[]> {
  const lists = numbers.map((number) =>
    readdir(join("/sys/dev/block", number, "holders")).catch(() => []),
  );
  return (await Promise.all(lists)).flat().map((name) => `device ${name}`);
}

async function loopDevicesOn(path: string): Promise<string[]> {
  const names = (await readdir("/sys/block").catch(() => [])).filter((name) =>
    name.startsWith("loop"),
  );
  const backing = names.map((name) =>
    readFile(join("/sys/block", name, "loop/backing_file"), "utf8").catch(() => ""),
  );
  const files = await Promise.all(backing);
  return names
    .filter((_name, index) => files[index]?.trim() === path)
    .map((name) => `/dev/${name}`);
}

/** Such as QEMU's image locks. */
async function lockHolders(device: number, inode: number): Promise<string[]> {
  const [major = "0", minor = "0"] = majorMinor(device).split(":");
  const hex = (text: string) => Number(text).toString(16).padStart(2, "0");
  const key = `${hex(major)}:${hex(minor)}:${inode}`;
  const locks = await readFile("/proc/locks", "utf8").catch(() => "");
  return locks.split("\n").some((line) => line.split(/\s+/).includes(key)) ? ["a file lock"] : [];
}

/** Of the processes that we may look into. */
async function openers(path: string): Promise<string[]> {
  const processIds = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const holders = await Promise.all(
    processIds.map(async (processId) => {
      const folder = join("/proc", processId, "fd");
      const names = await readdir(folder).catch(() => []);
      const links = names.map((name) => readlink(join(folder, name)).catch(() => ""));
      return (await Promise.all(links)).includes(path) ? processId : null;
    }),
  );
  return holders.filter((holder) => holder !== null).map((holder) => `process ${holder}`);
}

/** blkid: 0 something was found, 2 nothing; anything else, such as 8 (several), is unsure. */
async function signatureOf(path: string, unsure: string[]): Promise<string | null> {
  if (!isInstalled("blkid")) {
    unsure.push("blkid is not installed, so that nothing tells whether it bears a file system");
    return null;
  }
  const env = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
  return await new Promise((resolve) => {
    execFile("blkid", ["-p", "-o", "export", path], { env }, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code;
      if (code !== 0 && (code !== 2 || stderr.trim() !== "")) {
        unsure.push(`blkid ended with ${code ?? "a signal"}: ${stderr.trim()}`);
      }
      resolve(code === 0 ? describeSignature(stdout) : null);
    });
  });
}

function describeSignature(output: string): string {
  const match = /^(?:TYPE|PTTYPE)=(.*)$/m.exec(output);
  return match?.[1] ?? "an unknown signature";
}
