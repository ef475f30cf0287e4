/**
 * Layers without the addon, for tests of the store's own promises: a layer is a
 * JSON file that holds its blocks, and every use of a file goes through the
 * files given, so that a crash test sees it. Shares no code with native/.
 */
import { hashContent } from "#lib/model/block-hashes.js";
import type { LayerNative } from "#lib/replica/replica-tools.js";
import type { DecodedRecord, RecordDecoder } from "#lib/replica/layer-segment-sink.js";
import { TidemarkError } from "#lib/model/errors.js";
import type { NativeLayeredDevice } from "#lib/tracking/binding.js";
import type {
  NativeLayer,
  NativeLayerIdentity,
  NativeLayerMerge,
} from "#lib/tracking/layer-binding.js";
import { decodeSegment } from "../../contracts/segment-bytes.js";
import type { MemoryFiles } from "./memory-files.js";

interface PlainExtent {
  readonly offset: number;
  readonly length: number;
  /** base64; null for zeroes. */
  readonly data: string | null;
}

interface PlainLayer {
  readonly identity: NativeLayerIdentity;
  readonly extents: readonly PlainExtent[];
}

export function plainLayers(files: MemoryFiles): LayerNative {
  return {
    layerSegmentWriter: (path) => new PlainWriter(files, path),
    sealLayer: async (path, identity, blobs) => {
      const extents = blobs.flatMap((blob) => JSON.parse(blob.toString()) as PlainExtent[]);
      await files.writeSynced(path, Buffer.from(JSON.stringify({ identity, extents })));
      return summaryOf({ identity, extents });
    },
    verifyLayer: async (path, diskId) =>
      summaryOf(parseLayer(await files.read(path), path, diskId)),
    openLayeredDevice: async (diskId, sizeBytes, _granularityBytes, basePath, layerPaths) => {
      const content = Buffer.alloc(sizeBytes);
      if (basePath !== "") (await files.read(basePath)).copy(content);
      for (const path of layerPaths) {
        const layer = parseLayer(await files.read(path), path, diskId);
        for (const { offset, length, data } of layer.extents) {
          if (data === null) content.fill(0, offset, offset + length);
          else Buffer.from(data, "base64").copy(content, offset);
        }
      }
      return new PlainDevice(content, null);
    },
    openLayer: async (path, diskId) =>
      new PlainOpenLayer(parseLayer(await files.read(path), path, diskId)),
    mergeIntoLayer: (path, identity, layerPaths) =>
      mergeIntoLayer(files, path, identity, layerPaths),
    mergeIntoBase: (path, diskId, diskSizeBytes, layerPaths) =>
      mergeIntoBase(files, path, diskId, diskSizeBytes, layerPaths),
    crc32c: crcOf,
    checksumFile: async (path, offsetBytes, lengthBytes, blockBytes) =>
      checksumsOf(await files.read(path), offsetBytes, lengthBytes, blockBytes),
    openFileDevice: async (path) => {
      const content = Buffer.from(await files.read(path));
      return new PlainDevice(content, { files, path });
    },
  };
}

function checksumsOf(
  content: Buffer,
  offsetBytes: number,
  lengthBytes: number,
  blockBytes: number,
): Uint32Array {
  return Uint32Array.from({ length: Math.ceil(lengthBytes / blockBytes) }, (_, index) => {
    const block = Buffer.alloc(blockBytes);
    block.set(content.subarray(offsetBytes + index * blockBytes).subarray(0, blockBytes));
    return crcOf(block, 0);
  });
}

async function mergeIntoLayer(
  files: MemoryFiles,
  path: string,
  identity: NativeLayerIdentity,
  layerPaths: readonly string[],
): Promise<NativeLayerMerge> {
  const extents = mergedExtents(await parseLayers(files, layerPaths, identity.diskId));
  await files.writeSynced(path, Buffer.from("unsealed"));
  return {
    step: async () => false,
    finish: async () => {
      await files.writeSynced(path, Buffer.from(JSON.stringify({ identity, extents })));
      return summaryOf({ identity, extents });
    },
    close: async () => {},
  };
}

async function mergeIntoBase(
  files: MemoryFiles,
  path: string,
  diskId: string,
  diskSizeBytes: number,
  layerPaths: readonly string[],
): Promise<NativeLayerMerge> {
  const extents = mergedExtents(await parseLayers(files, layerPaths, diskId));
  const left = extents.filter(({ offset }) => offset < diskSizeBytes);
  return {
    step: async () => {
      const next = left.shift();
      if (next === undefined) return false;
      files.writeAt(path, next.offset, bytesOf(next).subarray(0, diskSizeBytes - next.offset));
      return true;
    },
    finish: async () => {
      files.syncFile(path);
      return { extentCount: 0, dataBytes: 0, zeroBytes: 0, checksum: 0 };
    },
    close: async () => {},
  };
}

class PlainWriter {
  readonly #files: MemoryFiles;
  readonly #path: string;
  readonly #extents: PlainExtent[] = [];

  constructor(files: MemoryFiles, path: string) {
    this.#files = files;
    this.#path = path;
  }

  append(offset: number, data: Uint8Array): void {
    const length = data.byteLength;
    this.#extents.push({ offset, length, data: Buffer.from(data).toString("base64") });
  }

  zero(offset: number, length: number): void {
    this.#extents.push({ offset, length, data: null });
  }

  async finish(): Promise<Buffer> {
    await this.#files.writeSynced(this.#path, Buffer.from("unsealed"));
    return Buffer.from(JSON.stringify(this.#extents));
  }

  async close(): Promise<void> {}
}

function parseLayer(bytes: Buffer, path: string, diskId: string): PlainLayer {
  if (bytes.toString("latin1", 0, 1) !== "{")
    throw new TidemarkError("CORRUPT", `${path} unsealed`);
  const layer = JSON.parse(bytes.toString()) as PlainLayer;
  if (layer.identity.diskId !== diskId) throw new TidemarkError("FOREIGN", `${path}: another disk`);
  return layer;
}

async function parseLayers(files: MemoryFiles, paths: readonly string[], diskId: string) {
  const layers: PlainLayer[] = [];
  for (const path of paths) layers.push(parseLayer(await files.read(path), path, diskId));
  return layers;
}

const BLOCK = 4096;

function bytesOf({ length, data }: PlainExtent): Buffer {
  return data === null ? Buffer.alloc(length) : Buffer.from(data, "base64");
}

/** A block at a time; the last that was said of it holds. */
function mergedExtents(layers: readonly PlainLayer[]): PlainExtent[] {
  const blocks = new Map<number, PlainExtent>();
  for (const extent of layers.flatMap(({ extents }) => extents)) {
    for (let at = 0; at < extent.length; at += BLOCK) {
      const length = Math.min(BLOCK, extent.length - at);
      const data = bytesOf(extent)
        .subarray(at, at + length)
        .toString("base64");
      const offset = extent.offset + at;
      blocks.set(offset, { offset, length, data: extent.data === null ? null : data });
    }
  }
  return [...blocks.values()].sort((a, b) => a.offset - b.offset);
}

function summaryOf({ extents }: PlainLayer) {
  const sum = (some: readonly PlainExtent[]) =>
    some.reduce((total, { length }) => total + length, 0);
  return {
    extentCount: extents.length,
    dataBytes: sum(extents.filter(({ data }) => data !== null)),
    zeroBytes: sum(extents.filter(({ data }) => data === null)),
    checksum: extents.length,
  };
}

/** Keeps no checksums of its own: a plain layer does not rot. */
class PlainOpenLayer implements NativeLayer {
  readonly granularityBytes: number;
  readonly checksum: number;
  readonly #sizeBytes: number;
  readonly #extents: readonly PlainExtent[];

  constructor(layer: PlainLayer) {
    this.granularityBytes = layer.identity.granularityBytes;
    this.checksum = summaryOf(layer).checksum;
    this.#sizeBytes = layer.identity.diskSizeBytes;
    this.#extents = layer.extents.toSorted((a, b) => a.offset - b.offset);
  }

  extents(fromBytes: number, maxExtents: number): Float64Array {
    const past = this.#extents.filter(({ offset, length }) => offset + length > fromBytes);
    const some = past.slice(0, maxExtents);
    return Float64Array.from(
      some.flatMap(({ offset, length, data }) => [offset, length, data === null ? 1 : 0]),
    );
  }

  checksums(offsetBytes: number, lengthBytes: number): Uint32Array {
    const found = this.#extents.find(
      ({ offset, length }) => offset <= offsetBytes && offsetBytes < offset + length,
    );
    if (found?.data === null || found === undefined) throw new Error("no data there");
    const data = Buffer.from(found.data, "base64").subarray(offsetBytes - found.offset);
    const count = Math.ceil(lengthBytes / this.granularityBytes);
    return Uint32Array.from({ length: count }, (_, index) => {
      const from = index * this.granularityBytes;
      return crcOf(data.subarray(from, from + this.granularityBytes), 0);
    });
  }

  async scan() {
    return { nextBytes: this.#sizeBytes, readBytes: 0, damaged: new Float64Array() };
  }

  async close(): Promise<void> {}
}

/** CRC-32C of each byte by its definition, a bit at a time. */
const CRC_OF_BYTE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ ((crc & 1) === 0 ? 0 : 0x82f63b78);
  return crc;
});

function crcOf(data: Uint8Array, seed: number): number {
  let crc = ~seed;
  for (const byte of data) crc = (crc >>> 8) ^ (CRC_OF_BYTE[(crc ^ byte) & 0xff] ?? 0);
  return ~crc >>> 0;
}

/** Writes go to the file behind it, if any; an extent for each 4 KiB that is of one kind. */
class PlainDevice implements NativeLayeredDevice {
  readonly engine = "plain";
  readonly #content: Buffer;
  readonly #file: { readonly files: MemoryFiles; readonly path: string } | null;

  constructor(content: Buffer, file: { files: MemoryFiles; path: string } | null) {
    this.#content = content;
    this.#file = file;
  }

  get sizeBytes(): number {
    return this.#content.length;
  }

  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    into.set(this.#content.subarray(offsetBytes, offsetBytes + into.byteLength));
  }

  async write(offsetBytes: number, from: Uint8Array): Promise<void> {
    this.#content.set(from, offsetBytes);
    this.#file?.files.writeAt(this.#file.path, offsetBytes, from);
  }

  async flush(): Promise<void> {
    this.#file?.files.syncFile(this.#file.path);
  }

  fold(): Promise<never> {
    return Promise.reject(new Error("plain disks are not folded"));
  }

  async hashBlocks(extents: Float64Array, blockBytes: number): Promise<Buffer> {
    return Buffer.from(hashContent(this.#content, [...extents], blockBytes));
  }

  async lockImage(): Promise<void> {
    // Nobody else has what is in memory.
  }

  async resize(sizeBytes: number): Promise<void> {
    throw new Error(`nothing resizes a plain device to ${sizeBytes} bytes`);
  }

  async trim(offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.writeZeroes(offsetBytes, lengthBytes);
  }

  async writeZeroes(offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.write(offsetBytes, Buffer.alloc(lengthBytes));
  }

  async extents(_context: string, offsetBytes: number, lengthBytes: number, maxExtents: number) {
    const flat: number[] = [];
    const end = offsetBytes + lengthBytes;
    for (let at = offsetBytes; at < end && flat.length < 2 * maxExtents; at += 4096) {
      const piece = this.#content.subarray(at, Math.min(at + 4096, end));
      flat.push(piece.length, piece.every((byte) => byte === 0) ? 3 : 0);
    }
    return Float64Array.from(flat);
  }

  giveUp(): void {}

  upstream(): null {
    return null;
  }

  async close(): Promise<void> {}
}

/** Decodes with the suite's own decoder, once the segment is whole. */
export class PlainDecoder implements RecordDecoder {
  #bytes = Buffer.alloc(0);
  #error: unknown = null;
  header: RecordDecoder["header"] = null;

  push(chunk: Uint8Array): Iterable<DecodedRecord> {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    try {
      const { extents, ...header } = decodeSegment(this.#bytes);
      this.header = { ...header, granularityBytes: this.#bytes.readUInt32LE(12) };
      this.#error = null;
      return extents.map(({ offsetBytes, lengthBytes, content }) =>
        content === null
          ? { type: "zero", offsetBytes, lengthBytes }
          : { type: "data", offsetBytes, data: content },
      );
    } catch (thrown) {
      this.#error = thrown;
      return [];
    }
  }

  finish(): void {
    if (this.#error !== null) throw this.#error;
  }
}
