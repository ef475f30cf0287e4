/**
 * A recovery point as files of its own: whole, durable and under its name, or not
 * there. They are made in a directory beside it, which is renamed at the end.
 */
import { mkdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { TidemarkError } from "../model/errors.js";
import type { CopiedDisk, CopyFormat } from "../model/point-copies.js";
import { binding, type NativeDevice } from "../tracking/binding.js";
import { convertToQcow2 } from "./convert-to-qcow2.js";
import { runsOf } from "./device-runs.js";
import { NodeStoreFiles } from "./node-store-files.js";
import { openPointDisk } from "./open-point-disk.js";
import type { OpenedPoint, PointDisk } from "./opened-point.js";

const PIECE_BYTES = 1 << 20;
const PARTIAL_SUFFIX = ".partial";

export interface CopyRequest {
  readonly point: OpenedPoint;
  readonly vmId: string;
  readonly format: CopyFormat;
  /** Becomes the copy; its parent is there. */
  readonly directory: string;
  /** For the NBD server that a conversion reads from. */
  readonly socketPath: string;
  readonly signal: AbortSignal;
  readonly onCopied: (bytes: number) => void;
}

export async function copyPoint(request: CopyRequest): Promise<readonly CopiedDisk[]> {
  const { directory } = request;
  const files = new NodeStoreFiles();
  if ((await files.size(directory)) !== null) throw alreadyThere(directory);
  const partial = directory + PARTIAL_SUFFIX;
  // Of a copy that a crash ended: nobody else gives that name.
  await files.removeTree(partial);
  try {
    await mkdir(partial, { mode: 0o700 });
    const disks = await copyDisks(request, partial);
    await describe(request, disks, partial);
    await files.syncDirectory(partial);
    if ((await files.size(directory)) !== null) throw alreadyThere(directory);
    await rename(partial, directory);
    await files.syncDirectory(dirname(directory));
    return disks;
  } catch (thrown) {
    await rm(partial, { recursive: true, force: true });
    throw thrown;
  }
}

async function copyDisks(request: CopyRequest, partial: string): Promise<CopiedDisk[]> {
  const { format } = request;
  const disks: CopiedDisk[] = [];
  for (const [index, disk] of request.point.disks.entries()) {
    // Numbered: a disk's name is its primary's text.
    const file = `disk-${index}.${format}`;
    await copyDisk(request, disk, join(partial, file));
    const { diskId, name, sizeBytes } = disk.geometry;
    disks.push({ file, diskId, name, sizeBytes });
  }
  return disks;
}

async function copyDisk(request: CopyRequest, disk: PointDisk, path: string): Promise<void> {
  const device = await openPointDisk(binding, disk);
  try {
    if (request.format === "raw") await copyRaw(request, device, path);
    else {
      await convertToQcow2(device, request.socketPath, path, request.signal);
      request.onCopied(device.sizeBytes);
    }
  } finally {
    await device.close();
  }
}

async function copyRaw(
  { signal, onCopied }: CopyRequest,
  device: NativeDevice,
  path: string,
): Promise<void> {
  await new NodeStoreFiles().createSparse(path, device.sizeBytes);
  const copy = await binding.openFileDevice(path, false, false, "none");
  try {
    const buffer = Buffer.allocUnsafe(PIECE_BYTES);
    for await (const run of runsOf(device, 0, device.sizeBytes)) {
      const endBytes = run.offsetBytes + run.lengthBytes;
      for (let at = run.offsetBytes; at < endBytes && !run.isZero; at += PIECE_BYTES) {
        signal.throwIfAborted();
        const piece = buffer.subarray(0, Math.min(PIECE_BYTES, endBytes - at));
        await device.read(at, piece);
        await copy.write(at, piece);
      }
      onCopied(run.lengthBytes);
    }
    await copy.flush();
  } finally {
    await copy.close();
  }
}

/** Which file is which disk, for who finds the directory later. */
async function describe(
  { point, vmId, format }: CopyRequest,
  disks: readonly CopiedDisk[],
  partial: string,
): Promise<void> {
  const text = `${JSON.stringify({ vmId, format, point: point.point, disks }, null, 2)}\n`;
  await new NodeStoreFiles().writeSynced(join(partial, "point.json"), Buffer.from(text));
}

function alreadyThere(directory: string): TidemarkError {
  return new TidemarkError(
    "ALREADY_EXISTS",
    `Cannot copy the recovery point to ${directory}: because that is there already.`,
    { hint: "Remove it, or name another directory." },
  );
}
