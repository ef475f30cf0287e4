/**
 * A file of an initial medium: compressed content, encrypted in chunks
 * (docs/formats/initial-media.md). A chunk's nonce holds its number and whether it
 * is the last, its key the file's name: what is cut, moved or changed does not open.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { TidemarkError, toTidemarkError } from "../model/errors.js";

export const SEALED_HEADER_BYTES = 32;
export const CHUNK_BYTES = 256 * 1024;
export const TAG_BYTES = 16;

const MAGIC = 0x314d4d54;
const FORMAT_VERSION = 1;
const CHUNK_LOG2 = 18;
const SALT_OFFSET = 16;
const NONCE_BYTES = 12;
const NOTHING = Buffer.alloc(0);

/** Which file it is: under another name it does not open. */
export interface SealedPlace {
  /** 32 bytes, of the medium. */
  readonly key: Uint8Array;
  readonly mediaId: string;
  /** Below the medium's folder, with "/" between. */
  readonly name: string;
}

/** Takes the content in pieces of any size, and gives the file's bytes. */
export class ChunkSealer {
  readonly header: Buffer;
  readonly #key: Uint8Array;
  #pending = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  #filledBytes = 0;
  #chunkIndex = 0;

  constructor(place: SealedPlace) {
    this.header = Buffer.alloc(SEALED_HEADER_BYTES);
    this.header.writeUInt32LE(MAGIC, 0);
    this.header.writeUInt16LE(FORMAT_VERSION, 4);
    this.header.writeUInt16LE(CHUNK_LOG2, 6);
    randomBytes(SEALED_HEADER_BYTES - SALT_OFFSET).copy(this.header, SALT_OFFSET);
    this.#key = fileKey(place, this.header);
  }

  *push(content: Uint8Array): Generator<Buffer> {
    for (let at = 0; at < content.length; ) {
      // Only what more follows on is not the last chunk.
      if (this.#filledBytes === CHUNK_BYTES) yield this.#seal(false);
      const part = content.subarray(at, at + CHUNK_BYTES - this.#filledBytes);
      this.#pending.set(part, this.#filledBytes);
      this.#filledBytes += part.length;
      at += part.length;
    }
  }

  end(): Buffer {
    return this.#seal(true);
  }

  #seal(isLast: boolean): Buffer {
    const nonce = nonceOf(this.#chunkIndex, isLast);
    const cipher = createCipheriv("aes-256-gcm", this.#key, nonce).setAAD(this.header);
    const sealed = cipher.update(this.#pending.subarray(0, this.#filledBytes));
    const rest = cipher.final();
    this.#chunkIndex += 1;
    this.#filledBytes = 0;
    return Buffer.concat([sealed, rest, cipher.getAuthTag()]);
  }
}

/** The file's content. What was yielded before an error must not count. */
export async function* readSealedFile(
  path: string,
  place: SealedPlace,
  signal?: AbortSignal,
): AsyncGenerator<Buffer, void, void> {
  const handle = await openForReading(path);
  try {
    const { size } = await handle.stat();
    const header = await readAt(handle, path, 0, SEALED_HEADER_BYTES);
    const opener = new ChunkOpener(path, place, header);
    let at = SEALED_HEADER_BYTES;
    do {
      signal?.throwIfAborted();
      const sealed = await readAt(handle, path, at, Math.min(CHUNK_BYTES + TAG_BYTES, size - at));
      at += sealed.length;
      yield opener.open(sealed, at >= size);
    } while (at < size);
  } catch (thrown) {
    throw toTidemarkError(thrown);
  } finally {
    await handle.close();
  }
}

class ChunkOpener {
  readonly #path: string;
  readonly #header: Buffer;
  readonly #key: Uint8Array;
  #chunkIndex = 0;

  constructor(path: string, place: SealedPlace, header: Buffer) {
    if (header.readUInt32LE(0) !== MAGIC) throw damaged(path, "it does not begin with TMM1");
    const version = header.readUInt16LE(4);
    if (version !== FORMAT_VERSION) throw unknownVersion(path, version);
    if (header.readUInt16LE(6) !== CHUNK_LOG2) throw damaged(path, "its chunks have another size");
    this.#path = path;
    this.#header = header;
    this.#key = fileKey(place, header);
  }

  open(sealed: Buffer, isLast: boolean): Buffer {
    const content = this.#tryOpen(sealed, isLast);
    if (content !== null) {
      this.#chunkIndex += 1;
      return content;
    }
    if (isLast && this.#tryOpen(sealed, false) !== null) throw truncated(this.#path);
    throw damaged(this.#path, `its chunk ${this.#chunkIndex} does not open`);
  }

  #tryOpen(sealed: Buffer, isLast: boolean): Buffer | null {
    if (sealed.length < TAG_BYTES) return null;
    const nonce = nonceOf(this.#chunkIndex, isLast);
    const decipher = createDecipheriv("aes-256-gcm", this.#key, nonce, {
      authTagLength: TAG_BYTES,
    }).setAAD(this.#header);
    decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
    const content = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES));
    try {
      return Buffer.concat([content, decipher.final()]);
    } catch {
      return null;
    }
  }
}

function fileKey({ key, mediaId, name }: SealedPlace, header: Buffer): Uint8Array {
  const info = `tidemark initial media 1\0${mediaId}\0${name}`;
  return new Uint8Array(hkdfSync("sha256", key, header.subarray(SALT_OFFSET), info, 32));
}

function nonceOf(chunkIndex: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeUIntBE(chunkIndex, 5, 6);
  nonce.writeUInt8(isLast ? 1 : 0, NONCE_BYTES - 1);
  return nonce;
}

async function openForReading(path: string): Promise<FileHandle> {
  try {
    return await open(path, "r");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw toTidemarkError(cause);
    throw new TidemarkError("NOT_FOUND", `Cannot read ${path}: because there is none.`, { cause });
  }
}

async function readAt(
  handle: FileHandle,
  path: string,
  position: number,
  lengthBytes: number,
): Promise<Buffer> {
  if (lengthBytes <= 0) return NOTHING;
  const into = Buffer.allocUnsafe(lengthBytes);
  for (let filled = 0; filled < lengthBytes; ) {
    const { bytesRead } = await handle.read(into, filled, lengthBytes - filled, position + filled);
    if (bytesRead === 0) throw truncated(path);
    filled += bytesRead;
  }
  return into;
}

function truncated(path: string): TidemarkError {
  return new TidemarkError("TRUNCATED", `Cannot read ${path}: because its end is missing.`, {
    hint: "Copy the medium again, or export the VM anew.",
  });
}

function damaged(path: string, why: string): TidemarkError {
  return new TidemarkError("CORRUPT", `Cannot read ${path}: because ${why}.`, {
    hint: "It is damaged, or was under another name on another medium: copy it again, or export the VM anew.",
  });
}

function unknownVersion(path: string, version: number): TidemarkError {
  return new TidemarkError(
    "VERSION_UNKNOWN",
    `Cannot read ${path}: because its format is version ${version} and this build knows ${FORMAT_VERSION}.`,
    { hint: "Bring both hosts to the same version of Tidemark." },
  );
}
