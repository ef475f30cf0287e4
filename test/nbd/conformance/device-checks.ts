/** The part of the suite that holds for a file or block device without NBD in between. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type FileHandle, open } from "node:fs/promises";
import { Violation } from "../client/failures.js";
import type { CheckResult, Verdict } from "./suite.js";
import type { Finding, Settings } from "./check.js";
import { pattern } from "./pattern.js";
import { type ByteStore, runRandomLoad } from "./random-load.js";

const AREA_BYTES = 1 << 20;
const SECTOR_BYTES = 512;

export interface ScratchDevice {
  readonly path: string;
  readonly file: FileHandle;
  readonly isBlockDevice: boolean;
  readonly sizeBytes: number;
}

interface DeviceCheck {
  readonly name: string;
  readonly about: string;
  /** Throws a Violation; answers why it does not apply, or null. */
  readonly run: (device: ScratchDevice, settings: Settings) => Promise<string | null>;
}

/** The protocol's part of the suite, which a device has nothing of. */
export const NOT_OF_DEVICES =
  "handshake, options, TLS, reply styles, errors on the wire, metadata contexts, several connections";

export async function openScratchDevice(path: string): Promise<ScratchDevice> {
  const file = await open(path, "r+");
  const stats = await file.stat();
  const isBlockDevice = stats.isBlockDevice();
  const sizeBytes = isBlockDevice ? await deviceBytes(path) : stats.size;
  return { path, file, isBlockDevice, sizeBytes };
}

export async function readDevice(
  device: ScratchDevice,
  at: number,
  length: number,
): Promise<Buffer> {
  const out = Buffer.alloc(length);
  const { bytesRead } = await device.file.read(out, 0, length, at);
  if (bytesRead !== length)
    throw new Violation(`a read of ${length} bytes at ${at} gives ${bytesRead}`);
  return out;
}

async function writeDevice(device: ScratchDevice, at: number, data: Buffer): Promise<void> {
  const { bytesWritten } = await device.file.write(data, 0, data.length, at);
  if (bytesWritten !== data.length) throw new Violation(`a write at ${at} is short`);
}

/** What is read next comes from the device, and not from what this machine remembers of it. */
async function flush(device: ScratchDevice): Promise<void> {
  await device.file.datasync();
  if (!device.isBlockDevice || (await succeeds("blockdev", "--flushbufs", device.path))) return;
  throw new Violation("its buffers cannot be flushed");
}

/** Programs of util-linux do what Node cannot: fallocate and the discard ioctls. */
async function succeeds(program: string, ...args: readonly (string | number)[]): Promise<boolean> {
  const child = spawn(program, args.map(String), { stdio: "ignore" });
  child.on("error", () => undefined);
  const [code] = (await once(child, "close").catch(() => [1])) as [number];
  return code === 0;
}

async function deviceBytes(path: string): Promise<number> {
  const child = spawn("blockdev", ["--getsize64", path], { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  await once(child, "close");
  return Number(said);
}

function zeroRange(device: ScratchDevice, at: number, length: number): Promise<boolean> {
  const range = ["--offset", at, "--length", length];
  return device.isBlockDevice
    ? succeeds("blkdiscard", "--zeroout", ...range, device.path)
    : succeeds("fallocate", "--zero-range", "--keep-size", ...range, device.path);
}

function discard(device: ScratchDevice, at: number, length: number): Promise<boolean> {
  const range = ["--offset", at, "--length", length];
  return device.isBlockDevice
    ? succeeds("blkdiscard", ...range, device.path)
    : succeeds("fallocate", "--punch-hole", ...range, device.path);
}

function storeOver(device: ScratchDevice): ByteStore {
  return {
    blockBytes: device.isBlockDevice ? SECTOR_BYTES : 1,
    read: (at, length) => readDevice(device, at, length),
    write: (at, data) => writeDevice(device, at, data),
    zero: (at, length) => zeroRange(device, at, length),
    // A hole punched into a file is zero; what a device gives after a discard is not known.
    trim: (at, length) => discard(device, at, length),
    flush: () => flush(device),
    zeroes: null,
  };
}

const DEVICE_CHECKS: readonly DeviceCheck[] = [
  {
    name: "device-read-write-last-bytes",
    about: "reads and writes up to the very last byte",
    run: async (device, { seed }) => {
      const data = pattern(SECTOR_BYTES, seed);
      const at = device.sizeBytes - SECTOR_BYTES;
      await writeDevice(device, at, data);
      await flush(device);
      const read = await readDevice(device, at, SECTOR_BYTES);
      if (!read.equals(data)) throw new Violation("the last bytes are not what was written");
      return null;
    },
  },
  {
    name: "device-past-end",
    about: "reads nothing past its end, and refuses to write there",
    run: async (device) => {
      const { bytesRead } = await device.file.read(Buffer.alloc(512), 0, 512, device.sizeBytes);
      if (bytesRead !== 0) throw new Violation(`${bytesRead} bytes are read past the end`);
      if (!device.isBlockDevice) return null;
      const refused = await device.file.write(Buffer.alloc(512), 0, 512, device.sizeBytes).then(
        () => false,
        () => true,
      );
      if (!refused) throw new Violation("a write past the end succeeds");
      return null;
    },
  },
  {
    name: "device-zeroes",
    about: "zeroing a range reads back as zeroes and touches nothing else",
    run: async (device, { seed }) => {
      const data = pattern(3 * 65536, seed);
      await writeDevice(device, 0, data);
      if (!(await zeroRange(device, 65536, 65536))) return "zeroing a range";
      await flush(device);
      data.fill(0, 65536, 2 * 65536);
      const read = await readDevice(device, 0, data.length);
      if (!read.equals(data)) throw new Violation("zeroing a range went wrong");
      return null;
    },
  },
  {
    name: "device-discard",
    about: "a discard touches nothing outside its range",
    run: async (device, { seed }) => {
      const data = pattern(3 * 65536, seed + 1);
      await writeDevice(device, 0, data);
      if (!(await discard(device, 65536, 65536))) return "discard";
      await flush(device);
      const read = await readDevice(device, 0, data.length);
      read.copy(data, 65536, 65536, 2 * 65536);
      if (!read.equals(data)) throw new Violation("a discard changed bytes beside its range");
      return null;
    },
  },
  {
    name: "device-data-integrity",
    about: "random requests of odd sizes leave what a naive model holds",
    run: async (device, settings) => {
      const areaBytes = Math.min(AREA_BYTES, device.sizeBytes - (device.sizeBytes % SECTOR_BYTES));
      const wrong = await runRandomLoad(storeOver(device), {
        ...settings,
        areaBytes,
        inFlight: 16,
      });
      if (wrong !== null) throw new Violation(wrong);
      return null;
    },
  },
];

export const DEVICE_CHECK_NAMES = DEVICE_CHECKS.map(({ name }) => name);

export async function runDeviceChecks(
  device: ScratchDevice,
  settings: Settings,
  isWanted: (name: string) => boolean,
): Promise<CheckResult[]> {
  const results: CheckResult[] = [];
  for (const { name, about, run } of DEVICE_CHECKS.filter((check) => isWanted(check.name))) {
    const startedMs = performance.now();
    let [verdict, reason]: [Verdict, string | null] = ["passed", null];
    const findings: Finding[] = [];
    try {
      reason = await run(device, settings);
      if (reason !== null) verdict = "not offered";
    } catch (thrown) {
      const text = (thrown as Error).message;
      findings.push({ severity: "violation", text });
      verdict = "violates";
    }
    const durationMs = Math.round(performance.now() - startedMs);
    results.push({ name, about, verdict, reason, findings, durationMs });
  }
  return results;
}
