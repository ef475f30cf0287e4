/**
 * Keeps the base's table of checksums: what a merge writes into the base gets the
 * checksums that the layers have of it, so that a block which rotted in a layer, or
 * on its way, never gets one that fits.
 *
 * The base's document says during all of it that a merge is under way, and the merge
 * is repeated whole after a crash: until then nobody judges these blocks.
 */
import { dirname } from "node:path";
import type { DiskGeometry } from "../model/disk.js";
import type { NativeLayer } from "../tracking/layer-binding.js";
import {
  BaseTable,
  type BaseTableHeader,
  BLANK_ENTRY,
  ENTRY_BYTES,
  encodeTableHeader,
  TABLE_HEADER_BYTES,
  UNKNOWN_ENTRY,
} from "./base-table.js";
import type { BaseDocument } from "./documents.js";
import { TEMPORARY_SUFFIX } from "./durable-document.js";
import type { ReplicaTools } from "./replica-tools.js";

/** Entries that are read, changed and written at once. */
const WINDOW_ENTRIES = 16_384;
const EXTENTS_AT_ONCE = 1024;

export type MergedGeometry = Omit<DiskGeometry, "name">;

/** Makes the table, or makes it longer, before the base is first written to. */
export async function prepareTable(
  { files, native }: ReplicaTools,
  path: string,
  disk: MergedGeometry,
  base: BaseDocument,
  /** Nothing was ever written to it. */
  isEmptyBase: boolean,
): Promise<void> {
  const present = await BaseTable.open(native, path, disk.diskId, base, "read");
  await present?.close();
  if (present === null) {
    const header = encodeTableHeader(native, {
      diskId: disk.diskId,
      granularityBytes: disk.granularityBytes,
      blank: isEmptyBase ? "zero" : "unknown",
      sequence: base.sequence,
    });
    await files.writeSynced(path + TEMPORARY_SUFFIX, header);
    await files.rename(path + TEMPORARY_SUFFIX, path);
    await files.syncDirectory(dirname(path));
  }
  const { granularityBytes } = present?.header ?? disk;
  const entryCount = Math.ceil(disk.sizeBytes / granularityBytes);
  await files.createSparse(path, TABLE_HEADER_BYTES + entryCount * ENTRY_BYTES);
}

export interface MergedDisk {
  readonly disk: MergedGeometry;
  readonly basePath: string;
  readonly tablePath: string;
  /** Oldest first; durable in the base already. */
  readonly layerPaths: readonly string[];
  /** Of the point that the base is to hold. */
  readonly sequence: number;
}

export async function recordMerge(
  { native }: ReplicaTools,
  base: BaseDocument,
  merged: MergedDisk,
  signal?: AbortSignal,
): Promise<void> {
  const { disk, tablePath, layerPaths, sequence } = merged;
  const layers: NativeLayer[] = [];
  const table = await BaseTable.open(native, tablePath, disk.diskId, base, "write");
  if (table === null) return;
  try {
    for (const path of layerPaths) layers.push(await native.openLayer(path, disk.diskId));
    const windowBytes = WINDOW_ENTRIES * table.header.granularityBytes;
    for (let at = nextWindow(layers, 0, windowBytes); at < disk.sizeBytes; ) {
      signal?.throwIfAborted();
      await new TableWindow(native, table, merged, at).apply(layers);
      at = nextWindow(layers, at + windowBytes, windowBytes);
    }
    await table.seal(sequence);
  } finally {
    for (const opened of [...layers, table]) await opened.close();
  }
}

/** Where the first window from `fromBytes` on begins that a layer says something of. */
function nextWindow(layers: readonly NativeLayer[], fromBytes: number, windowBytes: number) {
  const offsets = layers.map((layer) => layer.extents(fromBytes, 1)[0] ?? Infinity);
  const first = Math.max(fromBytes, Math.min(Infinity, ...offsets));
  return first === Infinity ? first : Math.floor(first / windowBytes) * windowBytes;
}

interface Extent {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly isZero: boolean;
}

/** A run of entries, while the layers' are put into it. */
class TableWindow {
  readonly #native: ReplicaTools["native"];
  readonly #table: BaseTable;
  readonly #header: BaseTableHeader;
  readonly #merged: MergedDisk;
  readonly #fromBytes: number;
  readonly #endBytes: number;
  #entries = new Uint32Array();

  constructor(
    native: ReplicaTools["native"],
    table: BaseTable,
    merged: MergedDisk,
    fromBytes: number,
  ) {
    this.#native = native;
    this.#table = table;
    this.#header = table.header;
    this.#merged = merged;
    this.#fromBytes = fromBytes;
    const windowBytes = WINDOW_ENTRIES * this.#header.granularityBytes;
    this.#endBytes = Math.min(fromBytes + windowBytes, merged.disk.sizeBytes);
  }

  async apply(layers: readonly NativeLayer[]): Promise<void> {
    const { granularityBytes } = this.#header;
    const first = this.#fromBytes / granularityBytes;
    const count = Math.ceil((this.#endBytes - this.#fromBytes) / granularityBytes);
    const before = await this.#table.read(first, count);
    this.#entries = before.slice();
    for (const layer of layers) {
      for (const extent of extentsOf(layer, this.#fromBytes, this.#endBytes)) {
        await this.#put(layer, extent);
      }
    }
    const changed = this.#entries.findIndex((entry, at) => entry !== before[at]);
    if (changed < 0) return;
    const last = this.#entries.findLastIndex((entry, at) => entry !== before[at]);
    await this.#table.write(first + changed, this.#entries.subarray(changed, last + 1));
  }

  async #put(layer: NativeLayer, extent: Extent): Promise<void> {
    const { granularityBytes } = this.#header;
    const first = (extent.offsetBytes - this.#fromBytes) / granularityBytes;
    const end = Math.ceil(first + extent.lengthBytes / granularityBytes);
    const isWhole = extent.lengthBytes % granularityBytes === 0;
    if (extent.isZero && layer.granularityBytes >= granularityBytes) {
      this.#entries.fill(this.#zeroEntry(), first, end);
    } else if (layer.granularityBytes !== granularityBytes) {
      // Of other blocks the layer has no checksums, and finer ones are a part of the table's.
      this.#entries.fill(UNKNOWN_ENTRY, first, end);
    } else {
      const checksums = layer.checksums(extent.offsetBytes, extent.lengthBytes);
      this.#entries.set(checksums.map(entryOf), first);
    }
    if (!isWhole) this.#entries[end - 1] = await this.#shortEntry(layer, extent);
  }

  #zeroEntry(): number {
    if (this.#header.blank === "zero") return BLANK_ENTRY;
    return entryOf(this.#native.crc32c(Buffer.alloc(this.#header.granularityBytes), 0));
  }

  /** The disk ended inside this block: what lies behind it in the base belongs to it. */
  async #shortEntry(layer: NativeLayer, extent: Extent): Promise<number> {
    const { granularityBytes } = this.#header;
    if (layer.granularityBytes !== granularityBytes) return UNKNOWN_ENTRY;
    const partBytes = extent.lengthBytes % granularityBytes;
    const offsetBytes = extent.offsetBytes + extent.lengthBytes - partBytes;
    const inBase = (bytes: number) =>
      this.#native.checksumFile(this.#merged.basePath, offsetBytes, bytes, bytes);
    const [part] = await inBase(partBytes);
    const expected = extent.isZero
      ? this.#native.crc32c(Buffer.alloc(partBytes), 0)
      : layer.checksums(offsetBytes, partBytes)[0];
    const [whole] = await inBase(granularityBytes);
    return part === expected && whole !== undefined ? entryOf(whole) : UNKNOWN_ENTRY;
  }
}

/** Two checksums have no entry of their own; such a block stays unknown. */
function entryOf(checksum: number): number {
  return checksum === BLANK_ENTRY ? UNKNOWN_ENTRY : checksum;
}

function* extentsOf(layer: NativeLayer, fromBytes: number, endBytes: number): Generator<Extent> {
  for (let at = fromBytes; at < endBytes; ) {
    const flat = layer.extents(at, EXTENTS_AT_ONCE);
    if (flat.length === 0) return;
    for (let i = 0; i < flat.length; i += 3) {
      const offsetBytes = Math.max(at, flat[i] ?? 0);
      const extentEnd = (flat[i] ?? 0) + (flat[i + 1] ?? 0);
      const end = Math.min(extentEnd, endBytes);
      if (offsetBytes >= endBytes) return;
      yield { offsetBytes, lengthBytes: end - offsetBytes, isZero: flat[i + 2] === 1 };
      at = extentEnd;
    }
  }
}
