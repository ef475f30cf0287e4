/** Requests and replies after the handshake, any number in flight, each reply checked. */
import type { ByteStream } from "./byte-stream.js";
import { ConnectionEnded, NoAnswer, Violation } from "./failures.js";
import type { ExportInfo, Handshake, MetaContext } from "./handshake.js";
import { type Expected, remarkError, type Reply, ReplyCollector } from "./reply-collector.js";
import { CMD, CMD_FLAG, ERR, MAGIC, nameOf, u16, u32, u64 } from "./wire.js";

export type { Extent, Reply } from "./reply-collector.js";

const CHUNK_BYTES_MAX = 1n << 27n;
const ANSWER_LIMIT_MS = 30_000;

export interface Request {
  readonly command: number;
  readonly flags?: number;
  readonly offset?: number | bigint;
  /** Default: that of the payload. */
  readonly length?: number | bigint;
  readonly payload?: Buffer;
  readonly cookie?: bigint;
  /** With extended headers, PAYLOAD_LEN is set where there is a payload; false leaves it to `flags`. */
  readonly setsPayloadLength?: boolean;
  /** BLOCK_STATUS with a payload: these contexts, about so many bytes. */
  readonly filter?: {
    readonly contextIds: readonly number[];
    readonly effectBytes: number | bigint;
  };
}

interface Waiting {
  readonly expected: Expected;
  readonly collector: ReplyCollector;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: Error) => void;
}

export class Transmission {
  readonly stream: ByteStream;
  readonly info: ExportInfo;
  readonly contexts: readonly MetaContext[];
  readonly style: "simple" | "structured" | "extended";
  readonly remarks = new Set<string>();
  readonly #waiting = new Map<bigint, Waiting>();
  #failure: Error | null = null;
  // All 64 bits are in use, so that a cookie cut to 32 does not come back right.
  #nextCookie = 0xfedc_0000_0000_0001n;

  constructor(handshake: Handshake, info: ExportInfo) {
    this.stream = handshake.stream;
    this.info = info;
    this.contexts = handshake.contexts;
    this.style = handshake.isExtended
      ? "extended"
      : handshake.isStructured
        ? "structured"
        : "simple";
    void this.#takeReplies();
  }

  get inFlight(): number {
    return this.#waiting.size;
  }

  read(offset: number | bigint, length: number | bigint, flags = 0): Promise<Reply> {
    return this.request({ command: CMD.READ, offset, length, flags });
  }

  write(offset: number | bigint, payload: Buffer, flags = 0): Promise<Reply> {
    return this.request({ command: CMD.WRITE, offset, payload, flags });
  }

  writeZeroes(offset: number | bigint, length: number | bigint, flags = 0): Promise<Reply> {
    return this.request({ command: CMD.WRITE_ZEROES, offset, length, flags });
  }

  trim(offset: number | bigint, length: number | bigint, flags = 0): Promise<Reply> {
    return this.request({ command: CMD.TRIM, offset, length, flags });
  }

  blockStatus(offset: number | bigint, length: number | bigint, flags = 0): Promise<Reply> {
    return this.request({ command: CMD.BLOCK_STATUS, offset, length, flags });
  }

  flush(flags = 0): Promise<Reply> {
    return this.request({ command: CMD.FLUSH, flags });
  }

  request(request: Request): Promise<Reply> {
    const cookie = request.cookie ?? this.#nextCookie++;
    const reply = this.expect(request, cookie);
    if (this.#failure === null) this.stream.write(...this.encode(request, cookie));
    return reply;
  }

  /** The reply to a request that is sent by hand. */
  expect(request: Request, cookie: bigint): Promise<Reply> {
    const expected = this.#expected(request);
    return new Promise((resolve, reject) => {
      if (this.#failure !== null) {
        reject(this.#failure);
        return;
      }
      const collector = new ReplyCollector(expected, (text) => this.remarks.add(text));
      this.#waiting.set(cookie, { expected, collector, resolve, reject });
    });
  }

  /** No reply is expected. */
  disconnect(): void {
    this.stream.write(...this.encode({ command: CMD.DISC }, 0n));
  }

  /** Header and payload as they go over the wire. */
  encode(request: Request, cookie: bigint): Buffer[] {
    const { command, offset = 0n, filter } = request;
    const payload = filter === undefined ? request.payload : filterPayload(filter);
    const length = request.length ?? payload?.length ?? 0;
    const isExtended = this.style === "extended";
    const announces = isExtended && payload !== undefined && request.setsPayloadLength !== false;
    const flags = (request.flags ?? 0) | (announces ? CMD_FLAG.PAYLOAD_LEN : 0);
    const header = Buffer.concat([
      u32(isExtended ? MAGIC.EXTENDED_REQUEST : MAGIC.REQUEST),
      u16(flags),
      u16(command),
      u64(cookie),
      u64(offset),
      isExtended ? u64(length) : u32(Number(length)),
    ]);
    return payload === undefined ? [header] : [header, payload];
  }

  destroy(): void {
    this.stream.destroy();
  }

  #expected(request: Request): Expected {
    const { command, flags = 0, offset = 0n, filter } = request;
    const lengthBytes = request.length ?? request.payload?.length ?? 0;
    const hasStatus = command === CMD.BLOCK_STATUS;
    return {
      command,
      flags,
      offset: BigInt(offset),
      effectBytes: BigInt(filter?.effectBytes ?? lengthBytes),
      exportBytes: this.info.sizeBytes,
      isExtended: this.style === "extended",
      contextIds: hasStatus ? (filter?.contextIds ?? this.contexts.map(({ id }) => id)) : [],
    };
  }

  async #takeReplies(): Promise<void> {
    try {
      for (;;) await this.#takeReply();
    } catch (thrown) {
      this.#failure = thrown as Error;
      if (thrown instanceof Violation) this.stream.destroy();
      for (const { reject } of this.#waiting.values()) reject(this.#failure);
      this.#waiting.clear();
    }
  }

  async #takeReply(): Promise<void> {
    const magic = (await this.#takeMagic()).readUInt32BE(0);
    if (magic === MAGIC.SIMPLE_REPLY) return this.#takeSimple();
    if (magic === MAGIC.STRUCTURED_REPLY && this.style === "structured") return this.#takeChunk(20);
    if (magic === MAGIC.EXTENDED_REPLY && this.style === "extended") return this.#takeChunk(32);
    throw new Violation(`a reply with magic 0x${magic.toString(16)} in ${this.style} style`);
  }

  /** Idle connections may stay silent for ever; those that owe an answer may not. */
  async #takeMagic(): Promise<Buffer> {
    for (;;) {
      try {
        return await this.stream.take(4, ANSWER_LIMIT_MS);
      } catch (thrown) {
        const isIdle = thrown instanceof NoAnswer && this.#waiting.size === 0;
        if (!isIdle) throw thrown;
      }
    }
  }

  #find(cookie: bigint): Waiting {
    const waiting = this.#waiting.get(cookie);
    if (waiting === undefined)
      throw new Violation(`a reply with cookie 0x${cookie.toString(16)}, which no request has`);
    return waiting;
  }

  async #takeSimple(): Promise<void> {
    const header = await this.stream.take(12);
    const error = header.readUInt32BE(0);
    const cookie = header.readBigUInt64BE(4);
    const waiting = this.#find(cookie);
    const { command, effectBytes } = waiting.expected;
    if (this.style === "extended") throw new Violation("a simple reply with extended headers");
    const needsChunks = command === CMD.READ || (command === CMD.BLOCK_STATUS && error === 0);
    if (this.style === "structured" && needsChunks) {
      throw new Violation(`a simple reply to ${nameOf(CMD, command)} with structured replies`);
    }
    remarkError(error, (text) => this.remarks.add(text));
    const dataBytes = command === CMD.READ && error === 0 ? Number(effectBytes) : 0;
    const data = await this.stream.take(dataBytes);
    this.#waiting.delete(cookie);
    waiting.resolve({
      error,
      message: "",
      style: "simple",
      data,
      chunkTypes: [],
      statuses: new Map(),
    });
  }

  async #takeChunk(headerBytes: 20 | 32): Promise<void> {
    const header = await this.stream.take(headerBytes - 4);
    const cookie = header.readBigUInt64BE(4);
    const waiting = this.#find(cookie);
    const isExtended = headerBytes === 32;
    if (isExtended && header.readBigUInt64BE(12) !== waiting.expected.offset) {
      throw new Violation("an extended reply whose offset is not the request's");
    }
    const lengthBytes = isExtended ? header.readBigUInt64BE(20) : BigInt(header.readUInt32BE(12));
    if (lengthBytes > CHUNK_BYTES_MAX) throw new Violation(`a chunk of ${lengthBytes} bytes`);
    const payload = await this.stream.take(Number(lengthBytes));
    const chunk = { flags: header.readUInt16BE(0), type: header.readUInt16BE(2), payload };
    if (!waiting.collector.add(chunk)) return;
    const reply = waiting.collector.finish();
    this.#waiting.delete(cookie);
    waiting.resolve(reply);
  }
}

function filterPayload(filter: {
  contextIds: readonly number[];
  effectBytes: number | bigint;
}): Buffer {
  return Buffer.concat([u64(filter.effectBytes), ...filter.contextIds.map(u32)]);
}

export function isLost(thrown: unknown): thrown is ConnectionEnded {
  return thrown instanceof ConnectionEnded;
}

export function errorName(error: number): string {
  return error === 0 ? "success" : nameOf(ERR, error);
}
