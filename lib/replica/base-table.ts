/**
 * The file beside a disk's base that holds a checksum for each of its blocks
 * (docs/formats/base-checksums.md).
 *
 * An entry is four bytes: of a blank one the header says what it means, so that
 * a sparse base has a sparse table. The header's sector says which base it
 * describes; a table of another one, or one that is damaged, knows nothing.
 */
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { NativeDevice } from "../tracking/binding.js";
import type { BaseDocument } from "./documents.js";
import type { LayerNative } from "./replica-tools.js";

export const TABLE_HEADER_BYTES = 4096;
export const ENTRY_BYTES = 4;
export const BLANK_ENTRY = 0;
export const UNKNOWN_ENTRY = 0xffff_ffff;

const SEAL_BYTES = 64;
const SEAL_CRC_OFFSET = 60;
const MAGIC = "TMKBCRCS";
const VERSION = 1;

export interface BaseTableHeader {
  readonly diskId: string;
  readonly granularityBytes: number;
  /** Of blocks without an entry: nothing was written to them since the base began, or not known. */
  readonly blank: "zero" | "unknown";
  /** Of the point that the base holds with these entries. */
  readonly sequence: number;
}

export function encodeTableHeader(native: LayerNative, header: BaseTableHeader): Buffer {
  const seal = Buffer.alloc(SEAL_BYTES);
  seal.write(MAGIC, 0, "latin1");
  seal.writeUInt32LE(VERSION, 8);
  seal.writeUInt32LE(header.blank === "zero" ? 1 : 0, 12);
  seal.write(header.diskId.replaceAll("-", ""), 16, "hex");
  seal.writeUInt32LE(header.granularityBytes, 32);
  seal.writeBigUInt64LE(BigInt(header.sequence), 40);
  seal.writeUInt32LE(native.crc32c(seal.subarray(0, SEAL_CRC_OFFSET), 0), SEAL_CRC_OFFSET);
  return seal;
}

/** Null when it is damaged or of another disk. VERSION_UNKNOWN. */
function decodeTableHeader(
  native: LayerNative,
  seal: Buffer,
  diskId: string,
): BaseTableHeader | null {
  if (seal.toString("latin1", 0, 8) !== MAGIC) return null;
  const version = seal.readUInt32LE(8);
  if (version !== VERSION) {
    throw new TidemarkError(
      "VERSION_UNKNOWN",
      `Cannot use the base's checksums: because their format is version ${version} and this build knows ${VERSION}.`,
      { hint: "Run the Tidemark version that wrote them, or a newer one." },
    );
  }
  const crc = native.crc32c(seal.subarray(0, SEAL_CRC_OFFSET), 0);
  if (crc !== seal.readUInt32LE(SEAL_CRC_OFFSET)) return null;
  if (seal.toString("hex", 16, 32) !== diskId.replaceAll("-", "")) return null;
  return {
    diskId,
    granularityBytes: seal.readUInt32LE(32),
    blank: seal.readUInt32LE(12) === 1 ? "zero" : "unknown",
    sequence: Number(seal.readBigUInt64LE(40)),
  };
}

export class BaseTable implements AsyncDisposable {
  readonly header: BaseTableHeader;
  readonly #native: LayerNative;
  readonly #file: NativeDevice;

  private constructor(native: LayerNative, file: NativeDevice, header: BaseTableHeader) {
    this.#native = native;
    this.#file = file;
    this.header = header;
  }

  /** Null when there is none that tells something of this base. */
  static async open(
    native: LayerNative,
    path: string,
    diskId: string,
    base: BaseDocument,
    mode: "read" | "write",
  ): Promise<BaseTable | null> {
    const file = await openIfThere(native, path, mode);
    if (file === null) return null;
    const header = await readHeader(native, file, diskId);
    if (header !== null && isOfBase(header, base)) return new BaseTable(native, file, header);
    await file.close();
    return null;
  }

  get entryCount(): number {
    return Math.floor((this.#file.sizeBytes - TABLE_HEADER_BYTES) / ENTRY_BYTES);
  }

  /** Blank ones past the file's end. */
  async read(first: number, count: number): Promise<Uint32Array> {
    const present = Math.max(0, Math.min(count, this.entryCount - first));
    const bytes = Buffer.alloc(count * ENTRY_BYTES);
    if (present > 0) {
      await this.#file.read(offsetOf(first), bytes.subarray(0, present * ENTRY_BYTES));
    }
    return Uint32Array.from({ length: count }, (_, at) => bytes.readUInt32LE(at * ENTRY_BYTES));
  }

  async write(first: number, entries: Uint32Array): Promise<void> {
    const bytes = Buffer.alloc(entries.length * ENTRY_BYTES);
    entries.forEach((entry, at) => bytes.writeUInt32LE(entry, at * ENTRY_BYTES));
    await this.#file.write(offsetOf(first), bytes);
  }

  /** Durable, with all entries, when it resolves. */
  async seal(sequence: number): Promise<void> {
    await this.#file.write(0, encodeTableHeader(this.#native, { ...this.header, sequence }));
    await this.#file.flush();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** A merge may have come to its last step but one, and more may have been given up since. */
function isOfBase(header: BaseTableHeader, base: BaseDocument): boolean {
  const last = base.mergingSequence ?? base.sequence;
  return header.sequence >= base.sequence && header.sequence <= last;
}

const offsetOf = (entry: number) => TABLE_HEADER_BYTES + entry * ENTRY_BYTES;

async function openIfThere(
  native: LayerNative,
  path: string,
  mode: "read" | "write",
): Promise<NativeDevice | null> {
  try {
    return await native.openFileDevice(path, mode === "read", false, "none");
  } catch (thrown) {
    if (toTidemarkError(thrown).code === "NOT_FOUND") return null;
    throw thrown;
  }
}

async function readHeader(
  native: LayerNative,
  file: NativeDevice,
  diskId: string,
): Promise<BaseTableHeader | null> {
  if (file.sizeBytes < TABLE_HEADER_BYTES) return null;
  const seal = Buffer.alloc(SEAL_BYTES);
  try {
    await file.read(0, seal);
    return decodeTableHeader(native, seal, diskId);
  } catch (thrown) {
    await file.close();
    throw thrown;
  }
}
