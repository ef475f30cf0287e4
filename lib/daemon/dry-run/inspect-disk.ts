import { TidemarkError, toTidemarkError } from "../../model/errors.js";
import { binding, type NativeDevice } from "../../tracking/binding.js";
import { isNbdUri } from "../../tracking/disk-backing.js";

export interface DiskInspection {
  readonly sizeBytes: number;
  /** What is not known to be zero: the first copy's content. */
  readonly allocatedBytes: number;
  /** Some of it, from all over the disk. */
  readonly samples: readonly Uint8Array[];
  /** Why it cannot be had for writing now. */
  readonly refusal: TidemarkError | null;
}

interface Extent {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

const SAMPLE_BYTES = 1 << 20;
const EXTENTS_AT_ONCE = 4096;
/** Flag of base:allocation: reads as zeroes. */
const ZERO = 2;
const RECONNECT_LIMIT_MS = 5_000;

/** Reads only: neither the disk nor a bitmap of it is changed. */
export async function inspectDisk(path: string, sampleCount: number): Promise<DiskInspection> {
  const refusal = isNbdUri(path) ? null : await lockRefusal(path);
  const device = await openForReading(path);
  try {
    const allocated = await allocatedExtents(device);
    const allocatedBytes = allocated.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    const samples = await readSamples(device, allocated, allocatedBytes, sampleCount);
    return { sizeBytes: device.sizeBytes, allocatedBytes, samples, refusal };
  } finally {
    await device.close();
  }
}

/** IN_USE when a program that locks images has it, as enabling would find. */
async function lockRefusal(path: string): Promise<TidemarkError | null> {
  try {
    const device = await binding.openFileDevice(path, true, false, "exclusive");
    await device.close();
    return null;
  } catch (thrown) {
    return toTidemarkError(thrown);
  }
}

function openForReading(path: string): Promise<NativeDevice> {
  if (isNbdUri(path)) return binding.openNbdDevice(path, 1, true, RECONNECT_LIMIT_MS);
  return binding.openFileDevice(path, true, false, "none");
}

async function allocatedExtents(device: NativeDevice): Promise<Extent[]> {
  const extents: Extent[] = [];
  for (let offsetBytes = 0; offsetBytes < device.sizeBytes; ) {
    const left = device.sizeBytes - offsetBytes;
    const runs = await device.extents("base:allocation", offsetBytes, left, EXTENTS_AT_ONCE);
    const before = offsetBytes;
    for (let index = 0; index + 1 < runs.length; index += 2) {
      const [lengthBytes = 0, flags = 0] = [runs[index], runs[index + 1]];
      if ((flags & ZERO) === 0) extents.push({ offsetBytes, lengthBytes });
      offsetBytes += lengthBytes;
    }
    if (offsetBytes === before) break;
  }
  return extents;
}

/** At even distances over what is allocated, so that each part counts by its size. */
async function readSamples(
  device: NativeDevice,
  allocated: readonly Extent[],
  allocatedBytes: number,
  count: number,
): Promise<Uint8Array[]> {
  const samples: Uint8Array[] = [];
  const stepBytes = Math.max(SAMPLE_BYTES, Math.floor(allocatedBytes / count));
  for (let atBytes = 0; atBytes < allocatedBytes && samples.length < count; atBytes += stepBytes) {
    const { offsetBytes, lengthBytes } = placeOf(allocated, atBytes);
    const sample = new Uint8Array(Math.min(SAMPLE_BYTES, lengthBytes));
    await device.read(offsetBytes, sample);
    samples.push(sample);
  }
  return samples;
}

/** Where the `atBytes`-th allocated byte is, and how much of its extent follows. */
function placeOf(allocated: readonly Extent[], atBytes: number): Extent {
  let leftBytes = atBytes;
  for (const { offsetBytes, lengthBytes } of allocated) {
    if (leftBytes < lengthBytes) {
      return { offsetBytes: offsetBytes + leftBytes, lengthBytes: lengthBytes - leftBytes };
    }
    leftBytes -= lengthBytes;
  }
  throw new TidemarkError("INTERNAL", "Cannot sample past what is allocated.");
}
