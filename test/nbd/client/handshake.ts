/** The option haggling of fixed newstyle, from the client's side; checks each reply's form. */
import type { ConnectionOptions } from "node:tls";
import { ByteStream } from "./byte-stream.js";
import { Violation } from "./failures.js";
import {
  CLIENT_FLAG,
  counted,
  INFO,
  MAGIC,
  nameOf,
  OPT,
  REP,
  STRING_BYTES_MAX,
  u16,
  u32,
  u64,
} from "./wire.js";

const REPLY_BYTES_MAX = 1 << 20;
const ERROR_BIT = 0x80000000;

export interface OptionReply {
  readonly type: number;
  readonly data: Buffer;
}

export interface Answer {
  /** REP.ACK or an error. */
  readonly final: number;
  /** The text that came with it. */
  readonly message: string;
  readonly replies: readonly OptionReply[];
}

export interface BlockSize {
  readonly minimum: number;
  readonly preferred: number;
  readonly maximum: number;
}

export interface ExportInfo {
  sizeBytes: bigint;
  flags: number;
  name: string | null;
  description: string | null;
  blockSize: BlockSize | null;
  /** In the order of the replies. */
  readonly types: number[];
}

export interface ListedExport {
  readonly name: string;
  readonly description: string;
}

export interface MetaContext {
  readonly id: number;
  readonly name: string;
}

export class Handshake {
  readonly stream: ByteStream;
  readonly serverFlags: number;
  readonly clientFlags: number;
  isStructured = false;
  isExtended = false;
  contexts: readonly MetaContext[] = [];

  private constructor(stream: ByteStream, serverFlags: number, clientFlags: number) {
    this.stream = stream;
    this.serverFlags = serverFlags;
    this.clientFlags = clientFlags;
  }

  /** Client flags: by default all that the server knows. */
  static async begin(stream: ByteStream, clientFlags?: number): Promise<Handshake> {
    const greeting = await stream.take(18);
    if (greeting.readBigUInt64BE(0) !== MAGIC.SERVER) {
      throw new Violation("the greeting does not begin with NBDMAGIC");
    }
    if (greeting.readBigUInt64BE(8) !== MAGIC.OPTION) {
      throw new Violation("not a newstyle server: the greeting has no IHAVEOPT");
    }
    const flags = greeting.readUInt16BE(16);
    const chosen = clientFlags ?? flags & (CLIENT_FLAG.FIXED_NEWSTYLE | CLIENT_FLAG.NO_ZEROES);
    stream.write(u32(chosen));
    return new Handshake(stream, flags, chosen);
  }

  sendOption(option: number, ...data: readonly Buffer[]): void {
    const lengthBytes = data.reduce((sum, part) => sum + part.length, 0);
    this.stream.write(optionHeader(option, lengthBytes), ...data);
  }

  async reply(option: number): Promise<OptionReply> {
    const header = await this.stream.take(20);
    if (header.readBigUInt64BE(0) !== MAGIC.OPTION_REPLY) {
      throw new Violation(`the reply to ${nameOf(OPT, option)} has a wrong magic`);
    }
    if (header.readUInt32BE(8) !== option) {
      const named = nameOf(OPT, header.readUInt32BE(8));
      throw new Violation(`the reply to ${nameOf(OPT, option)} names option ${named}`);
    }
    const type = header.readUInt32BE(12);
    const lengthBytes = header.readUInt32BE(16);
    if (lengthBytes > REPLY_BYTES_MAX)
      throw new Violation(`an option reply of ${lengthBytes} bytes`);
    const data = await this.stream.take(lengthBytes);
    checkOptionReply(type, data);
    return { type, data };
  }

  /** Sends the option and takes all replies to it. */
  async ask(option: number, ...data: readonly Buffer[]): Promise<Answer> {
    this.sendOption(option, ...data);
    return this.answer(option);
  }

  async answer(option: number): Promise<Answer> {
    const replies: OptionReply[] = [];
    for (;;) {
      const reply = await this.reply(option);
      if (reply.type === REP.ACK) return { final: REP.ACK, message: "", replies };
      if ((reply.type & ERROR_BIT) !== 0) {
        return { final: reply.type, message: reply.data.toString(), replies };
      }
      replies.push(reply);
    }
  }

  async list(): Promise<{ readonly final: number; readonly exports: ListedExport[] }> {
    const { final, replies } = await this.ask(OPT.LIST);
    return { final, exports: replies.map(listedExport) };
  }

  async info(
    option: typeof OPT.INFO | typeof OPT.GO,
    exportName: string | Buffer,
    requests: readonly number[] = [INFO.NAME, INFO.DESCRIPTION, INFO.BLOCK_SIZE],
  ): Promise<{
    readonly final: number;
    readonly message: string;
    readonly info: ExportInfo | null;
  }> {
    const { final, message, replies } = await this.ask(option, infoData(exportName, requests));
    const info = exportInfo(replies);
    if (final === REP.ACK && info === null) {
      throw new Violation(`${nameOf(OPT, option)} succeeded without INFO_EXPORT`);
    }
    return { final, message, info };
  }

  async exportName(name: string | Buffer): Promise<ExportInfo> {
    this.sendOption(OPT.EXPORT_NAME, Buffer.from(name));
    const answer = await this.stream.take(10);
    if ((this.clientFlags & CLIENT_FLAG.NO_ZEROES) === 0) {
      const zeroes = await this.stream.take(124);
      if (zeroes.some((byte) => byte !== 0)) throw new Violation("the 124 bytes are not all zero");
    }
    const empty = { name: null, description: null, blockSize: null, types: [] };
    return { sizeBytes: answer.readBigUInt64BE(0), flags: answer.readUInt16BE(8), ...empty };
  }

  async negotiateStructured(): Promise<boolean> {
    this.isStructured = (await this.ask(OPT.STRUCTURED_REPLY)).final === REP.ACK;
    return this.isStructured;
  }

  async negotiateExtended(): Promise<boolean> {
    this.isExtended = (await this.ask(OPT.EXTENDED_HEADERS)).final === REP.ACK;
    return this.isExtended;
  }

  async metaContexts(
    option: typeof OPT.LIST_META_CONTEXT | typeof OPT.SET_META_CONTEXT,
    exportName: string,
    queries: readonly string[],
  ): Promise<{ readonly final: number; readonly contexts: MetaContext[] }> {
    const { final, replies } = await this.ask(option, metaContextData(exportName, queries));
    const contexts = replies.map(metaContext);
    if (option === OPT.SET_META_CONTEXT) {
      this.contexts = final === REP.ACK ? contexts : [];
      if (new Set(contexts.map(({ id }) => id)).size < contexts.length) {
        throw new Violation("two metadata contexts have one id");
      }
    }
    return { final, contexts };
  }

  /** After a STARTTLS that was acknowledged: nothing from before it counts. */
  async secure(options: ConnectionOptions): Promise<void> {
    await this.stream.startTls(options);
    this.isStructured = false;
    this.isExtended = false;
    this.contexts = [];
  }

  destroy(): void {
    this.stream.destroy();
  }
}

export function optionHeader(option: number, lengthBytes: number): Buffer {
  return Buffer.concat([u64(MAGIC.OPTION), u32(option), u32(lengthBytes)]);
}

export function infoData(exportName: string | Buffer, requests: readonly number[]): Buffer {
  return Buffer.concat([counted(exportName), u16(requests.length), ...requests.map(u16)]);
}

export function metaContextData(exportName: string, queries: readonly string[]): Buffer {
  return Buffer.concat([counted(exportName), u32(queries.length), ...queries.map(counted)]);
}

function checkOptionReply(type: number, data: Buffer): void {
  if (type === REP.ACK && data.length > 0) throw new Violation("an ACK that carries data");
  if ((type & ERROR_BIT) !== 0) checkString(data, "an error's text");
  else if (nameOf(REP, type).startsWith("0x"))
    throw new Violation(`reply type ${type} is not known`);
}

export function checkString(data: Buffer, what: string): string {
  if (data.length > STRING_BYTES_MAX) throw new Violation(`${what} has ${data.length} bytes`);
  if (data.includes(0)) throw new Violation(`${what} holds a NUL`);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(data);
  } catch {
    throw new Violation(`${what} is not UTF-8`);
  }
}

function listedExport({ type, data }: OptionReply): ListedExport {
  if (type !== REP.SERVER) throw new Violation(`LIST is answered with ${nameOf(REP, type)}`);
  if (data.length < 4 || data.readUInt32BE(0) > data.length - 4) {
    throw new Violation("REP_SERVER: the name is longer than the reply");
  }
  const nameEnd = 4 + data.readUInt32BE(0);
  const name = checkString(data.subarray(4, nameEnd), "an export's name");
  return { name, description: checkString(data.subarray(nameEnd), "an export's description") };
}

function metaContext({ type, data }: OptionReply): MetaContext {
  if (type !== REP.META_CONTEXT || data.length < 4) {
    throw new Violation(`a metadata context is answered with ${nameOf(REP, type)}`);
  }
  const name = checkString(data.subarray(4), "a metadata context's name");
  if (!name.includes(":")) throw new Violation(`the metadata context ${name} has no namespace`);
  return { id: data.readUInt32BE(0), name };
}

const INFO_BYTES: Readonly<Record<number, number>> = { [INFO.EXPORT]: 12, [INFO.BLOCK_SIZE]: 14 };

function exportInfo(replies: readonly OptionReply[]): ExportInfo | null {
  const info: ExportInfo = {
    sizeBytes: 0n,
    flags: 0,
    name: null,
    description: null,
    blockSize: null,
    types: [],
  };
  for (const { type, data } of replies) {
    if (type !== REP.INFO) throw new Violation(`INFO is answered with ${nameOf(REP, type)}`);
    if (data.length < 2) throw new Violation("REP_INFO without a type");
    const kind = data.readUInt16BE(0);
    const expected = INFO_BYTES[kind] ?? data.length;
    if (data.length !== expected) {
      throw new Violation(`${nameOf(INFO, kind)} has ${data.length} bytes, not ${expected}`);
    }
    info.types.push(kind);
    takeInfo(info, kind, data);
  }
  return info.types.includes(INFO.EXPORT) ? info : null;
}

function takeInfo(info: ExportInfo, kind: number, data: Buffer): void {
  if (kind === INFO.EXPORT) {
    info.sizeBytes = data.readBigUInt64BE(2);
    info.flags = data.readUInt16BE(10);
  } else if (kind === INFO.NAME) {
    info.name = checkString(data.subarray(2), "the export's name");
  } else if (kind === INFO.DESCRIPTION) {
    info.description = checkString(data.subarray(2), "the export's description");
  } else if (kind === INFO.BLOCK_SIZE) {
    const [minimum, preferred, maximum] = [2, 6, 10].map((at) => data.readUInt32BE(at));
    info.blockSize = { minimum: minimum ?? 0, preferred: preferred ?? 0, maximum: maximum ?? 0 };
  }
}
