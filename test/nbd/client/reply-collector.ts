/**
 * The chunks of one reply, held against every rule of the specification: one
 * collector a request. A broken rule is a Violation; what a server SHOULD do
 * otherwise goes to `remarks`.
 */
import { Violation } from "./failures.js";
import { checkString } from "./handshake.js";
import { CHUNK, CMD, CMD_FLAG, ERR, nameOf, REPLY_FLAG_DONE, STRING_BYTES_MAX } from "./wire.js";

const EXTENTS_MAX = 1 << 20;
const ERROR_BIT = 0x8000;

export interface Extent {
  readonly length: bigint;
  readonly flags: bigint;
}

export interface Chunk {
  readonly flags: number;
  readonly type: number;
  readonly payload: Buffer;
}

export interface Reply {
  /** 0 for success. */
  readonly error: number;
  readonly message: string;
  readonly style: "simple" | "structured" | "extended";
  /** Of a READ that succeeded. */
  readonly data: Buffer;
  /** Types, in the order of their arrival. */
  readonly chunkTypes: readonly number[];
  /** By context id. */
  readonly statuses: ReadonlyMap<number, readonly Extent[]>;
}

export interface Expected {
  readonly command: number;
  readonly flags: number;
  readonly offset: bigint;
  /** How much of the export the request is about, wherever the wire says so. */
  readonly effectBytes: bigint;
  readonly exportBytes: bigint;
  readonly isExtended: boolean;
  /** The contexts that a BLOCK_STATUS must be answered for. */
  readonly contextIds: readonly number[];
}

export class ReplyCollector {
  readonly #expected: Expected;
  readonly #remark: (text: string) => void;
  readonly #covered: { readonly from: bigint; readonly to: bigint }[] = [];
  readonly #statuses = new Map<number, readonly Extent[]>();
  readonly #chunkTypes: number[] = [];
  readonly #pieces: { readonly at: bigint; readonly data: Buffer }[] = [];
  #error = 0;
  #message = "";

  constructor(expected: Expected, remark: (text: string) => void) {
    this.#expected = expected;
    this.#remark = remark;
  }

  /** True when it was the last one. */
  add(chunk: Chunk): boolean {
    const { type, flags, payload } = chunk;
    const isDone = (flags & REPLY_FLAG_DONE) !== 0;
    this.#must((flags & ~REPLY_FLAG_DONE) === 0, `reply flags 0x${flags.toString(16)}`);
    this.#chunkTypes.push(type);
    if ((type & ERROR_BIT) !== 0) this.#addError(type, payload);
    else if (type === CHUNK.NONE)
      this.#must(payload.length === 0 && isDone, "a NONE chunk with data or without DONE");
    else if (type === CHUNK.OFFSET_DATA) this.#addData(payload);
    else if (type === CHUNK.OFFSET_HOLE) this.#addHole(payload);
    else if (type === CHUNK.BLOCK_STATUS || type === CHUNK.BLOCK_STATUS_EXT)
      this.#addStatus(type, payload);
    else this.#must(false, `chunk type ${type} is not known`);
    return isDone;
  }

  /** After the last chunk. */
  finish(): Reply {
    if (this.#error === 0) this.#checkComplete();
    return {
      error: this.#error,
      message: this.#message,
      style: this.#expected.isExtended ? "extended" : "structured",
      data: this.#error === 0 ? this.#data() : Buffer.alloc(0),
      chunkTypes: this.#chunkTypes,
      statuses: this.#statuses,
    };
  }

  #must(holds: boolean, what: string): void {
    if (!holds) throw new Violation(`reply to ${nameOf(CMD, this.#expected.command)}: ${what}`);
  }

  #checkComplete(): void {
    const { command, effectBytes, contextIds } = this.#expected;
    if (command === CMD.READ) {
      const covered = this.#covered.reduce((sum, { from, to }) => sum + (to - from), 0n);
      this.#must(
        covered === effectBytes,
        `success, but ${covered} of ${effectBytes} bytes are covered`,
      );
    }
    if (command === CMD.BLOCK_STATUS) {
      const missing = contextIds.filter((id) => !this.#statuses.has(id));
      this.#must(
        missing.length === 0,
        `success without a chunk for contexts ${missing.join(", ")}`,
      );
    }
  }

  #addData(payload: Buffer): void {
    this.#must(payload.length >= 9, `OFFSET_DATA of ${payload.length} bytes`);
    const from = payload.readBigUInt64BE(0);
    const data = payload.subarray(8);
    this.#addContent(from, from + BigInt(data.length));
    this.#pieces.push({ at: from, data });
  }

  #addHole(payload: Buffer): void {
    this.#must(payload.length === 12, `OFFSET_HOLE of ${payload.length} bytes`);
    const from = payload.readBigUInt64BE(0);
    const sizeBytes = BigInt(payload.readUInt32BE(8));
    this.#must(sizeBytes > 0n, "a hole of 0 bytes");
    this.#addContent(from, from + sizeBytes);
  }

  /** Assembled last, so that a length that the server does not honour takes no memory. */
  #data(): Buffer {
    const { command, effectBytes, offset } = this.#expected;
    const out = Buffer.alloc(command === CMD.READ ? Number(effectBytes) : 0);
    for (const { at, data } of this.#pieces) out.set(data, Number(at - offset));
    return out;
  }

  #addContent(from: bigint, to: bigint): void {
    const { command, flags, offset, effectBytes } = this.#expected;
    this.#must(command === CMD.READ, "a content chunk");
    this.#must(
      from >= offset && to <= offset + effectBytes,
      `content at ${from}..${to}, outside the request`,
    );
    const overlap = this.#covered.some((other) => from < other.to && to > other.from);
    this.#must(!overlap, `content at ${from}..${to} overlaps with an earlier chunk`);
    this.#covered.push({ from, to });
    const isWhole = (flags & CMD_FLAG.DF) !== 0;
    this.#must(!isWhole || this.#covered.length === 1, "several content chunks in spite of DF");
  }

  #addStatus(type: number, payload: Buffer): void {
    const { command, isExtended, contextIds } = this.#expected;
    this.#must(command === CMD.BLOCK_STATUS, "a status chunk");
    this.#must(
      (type === CHUNK.BLOCK_STATUS_EXT) === isExtended,
      `${nameOf(CHUNK, type)} with the other header style`,
    );
    this.#must(payload.length >= 4, "a status chunk without a context");
    const id = payload.readUInt32BE(0);
    this.#must(contextIds.includes(id), `context ${id} was not asked for`);
    this.#must(!this.#statuses.has(id), `two chunks for context ${id}`);
    const extents = isExtended ? this.#wideExtents(payload) : this.#narrowExtents(payload);
    this.#checkExtents(extents);
    this.#statuses.set(id, extents);
  }

  #narrowExtents(payload: Buffer): Extent[] {
    const bytes = payload.length - 4;
    this.#must(bytes > 0 && bytes % 8 === 0, `BLOCK_STATUS of ${payload.length} bytes`);
    return Array.from({ length: bytes / 8 }, (_, index) => ({
      length: BigInt(payload.readUInt32BE(4 + index * 8)),
      flags: BigInt(payload.readUInt32BE(8 + index * 8)),
    }));
  }

  #wideExtents(payload: Buffer): Extent[] {
    const bytes = payload.length - 8;
    this.#must(bytes > 0 && bytes % 16 === 0, `BLOCK_STATUS_EXT of ${payload.length} bytes`);
    const count = payload.readUInt32BE(4);
    this.#must(
      count * 16 === bytes,
      `BLOCK_STATUS_EXT counts ${count} descriptors in ${bytes} bytes`,
    );
    return Array.from({ length: count }, (_, index) => ({
      length: payload.readBigUInt64BE(8 + index * 16),
      flags: payload.readBigUInt64BE(16 + index * 16),
    }));
  }

  #checkExtents(extents: readonly Extent[]): void {
    const { flags, offset, effectBytes, exportBytes } = this.#expected;
    this.#must(
      extents.every(({ length }) => length > 0n),
      "an extent of 0 bytes",
    );
    const total = extents.reduce((sum, { length }) => sum + length, 0n);
    const allButLast = total - (extents.at(-1)?.length ?? 0n);
    if ((flags & CMD_FLAG.REQ_ONE) !== 0) {
      this.#must(extents.length === 1, `${extents.length} extents in spite of REQ_ONE`);
      this.#must(
        total <= effectBytes,
        `REQ_ONE: an extent of ${total} bytes, over the request's ${effectBytes}`,
      );
    } else {
      this.#must(
        extents.length === 1 || allButLast < effectBytes,
        "an extent begins behind the request's end",
      );
    }
    this.#must(
      offset + total <= exportBytes,
      `extents to ${offset + total}, past the export's end`,
    );
    if (extents.length > EXTENTS_MAX) this.#remark(`${extents.length} extents in one chunk`);
    const isRepeating = extents.some(
      ({ flags }, index) => index > 0 && extents[index - 1]?.flags === flags,
    );
    if (isRepeating) this.#remark("consecutive extents have the same status");
  }

  #addError(type: number, payload: Buffer): void {
    const { offset, effectBytes } = this.#expected;
    const fixedBytes = type === CHUNK.ERROR_OFFSET ? 14 : 6;
    this.#must(payload.length >= fixedBytes, `an error chunk of ${payload.length} bytes`);
    const error = payload.readUInt32BE(0);
    const messageBytes = payload.readUInt16BE(4);
    this.#must(error !== 0, "an error chunk with error 0");
    this.#must(
      messageBytes <= payload.length - fixedBytes,
      "an error message longer than its chunk",
    );
    this.#must(messageBytes <= STRING_BYTES_MAX, `an error message of ${messageBytes} bytes`);
    if (type === CHUNK.ERROR_OFFSET) {
      const at = payload.readBigUInt64BE(6 + messageBytes);
      this.#must(
        at >= offset && at <= offset + effectBytes,
        "an error at an offset outside the request",
      );
    }
    if (this.#error === 0)
      this.#message = checkString(payload.subarray(6, 6 + messageBytes), "an error message");
    if (this.#error === 0) this.#error = error;
    remarkError(error, this.#remark);
  }
}

export function remarkError(error: number, remark: (text: string) => void): void {
  if (error !== 0 && nameOf(ERR, error).startsWith("0x")) remark(`errno ${error} is none of NBD's`);
  if (error === ERR.ENOMEM) remark("ENOMEM");
}
