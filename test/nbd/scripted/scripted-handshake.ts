import type { ByteStream } from "../client/byte-stream.js";
import { counted, FLAG, INFO, MAGIC, OPT, REP, u16, u32, u64 } from "../client/wire.js";
import type { ScriptedServer } from "./scripted-server.js";

const NAME = "";
export const CONTEXTS = ["base:allocation", "x-scripted:odd"] as const;
const NEVER_MS = 60_000;

/** What the two sides have agreed on. */
export interface Agreed {
  stream: ByteStream;
  isStructured: boolean;
  isExtended: boolean;
  contextIds: number[];
}

class Malformed extends Error {}

export class ScriptedHandshake {
  readonly #server: ScriptedServer;
  readonly #agreed: Agreed;
  #hasNoZeroes = false;
  #isTls = false;
  #infoCount = 0;

  constructor(server: ScriptedServer, stream: ByteStream) {
    this.#server = server;
    this.#agreed = { stream, isStructured: false, isExtended: false, contextIds: [] };
  }

  /** Null when the client has left or was dropped. */
  async run(): Promise<Agreed | null> {
    const extra = this.#server.has("handshake-flag-undefined") ? 4 : 0;
    this.stream.write(u64(MAGIC.SERVER), u64(MAGIC.OPTION), u16(3 | extra));
    const flags = (await this.#take(4)).readUInt32BE(0);
    if ((flags & ~3) !== 0 && !this.#server.has("unknown-client-flags-served")) return null;
    this.#hasNoZeroes = (flags & 2) !== 0;
    for (;;) {
      const header = await this.#take(16);
      if (header.readBigUInt64BE(0) !== MAGIC.OPTION) return null;
      const [option, lengthBytes] = [header.readUInt32BE(8), header.readUInt32BE(12)];
      if (lengthBytes > 1 << 20) return null;
      const isLeft = this.#isUnknown(option) && this.#server.has("unknown-option-data-not-taken");
      const data = isLeft ? Buffer.alloc(0) : await this.#take(lengthBytes);
      const next = await this.#answer(option, data);
      if (next === "drop") return null;
      if (next === "go") return this.#agreed;
    }
  }

  get stream(): ByteStream {
    return this.#agreed.stream;
  }

  #take(lengthBytes: number): Promise<Buffer> {
    return this.stream.take(lengthBytes, NEVER_MS);
  }

  #isUnknown(option: number): boolean {
    return !Object.values<number>(OPT).includes(option);
  }

  #reply(option: number, type: number, ...data: readonly Buffer[]): void {
    const body = Buffer.concat(data);
    this.stream.write(u64(MAGIC.OPTION_REPLY), u32(option), u32(type), u32(body.length), body);
  }

  async #answer(option: number, data: Buffer): Promise<"on" | "drop" | "go"> {
    const { isTlsRequired = false } = this.#server.settings;
    const isBefore = isTlsRequired && !this.#isTls;
    if (isBefore && option === OPT.EXPORT_NAME) return "drop";
    if (isBefore && option !== OPT.STARTTLS && option !== OPT.ABORT) {
      this.#reply(option, REP.ERR_TLS_REQD);
      return "on";
    }
    try {
      return this.#known(option, data);
    } catch (thrown) {
      if (!(thrown instanceof Malformed) && !(thrown instanceof RangeError)) throw thrown;
      this.#reply(option, REP.ERR_INVALID);
      return "on";
    }
  }

  #known(option: number, data: Buffer): "on" | "drop" | "go" {
    const server = this.#server;
    if (option === OPT.EXPORT_NAME) return this.#exportName(data);
    if (option === OPT.INFO || option === OPT.GO) return this.#info(option, data);
    if (option === OPT.ABORT) {
      if (!server.has("abort-unanswered")) this.#reply(option, REP.ACK);
      return "drop";
    }
    if (this.#isUnknown(option) && server.has("unknown-option-ends")) return "drop";
    if (option === OPT.STARTTLS) this.#starttls(data);
    else if (option === OPT.LIST) this.#list(data);
    else if (option === OPT.STRUCTURED_REPLY) this.#structured(data);
    else if (option === OPT.EXTENDED_HEADERS) this.#extended(data);
    else if (option === OPT.LIST_META_CONTEXT || option === OPT.SET_META_CONTEXT)
      this.#contexts(option, data);
    else this.#reply(option, server.has("unknown-option-acknowledged") ? REP.ACK : REP.ERR_UNSUP);
    return "on";
  }

  #exportName(data: Buffer): "drop" | "go" {
    const isKnown = data.toString() === NAME || this.#server.has("unknown-export-name-served");
    if (!isKnown || this.#agreed.isExtended) return "drop";
    const pads = !this.#hasNoZeroes || this.#server.has("no-zeroes-ignored");
    this.stream.write(u64(this.#claimedBytes), u16(this.#flags()), Buffer.alloc(pads ? 124 : 0));
    return "go";
  }

  get #claimedBytes(): bigint {
    return this.#server.settings.claimedBytes ?? BigInt(this.#server.sizeBytes);
  }

  #flags(): number {
    const writing =
      this.#server.settings.isReadOnly === true
        ? FLAG.READ_ONLY
        : FLAG.SEND_TRIM | FLAG.SEND_WRITE_ZEROES | FLAG.SEND_FAST_ZERO;
    const always =
      FLAG.HAS_FLAGS | FLAG.SEND_FLUSH | FLAG.SEND_FUA | FLAG.SEND_CACHE | FLAG.CAN_MULTI_CONN;
    const { isStructured, isExtended } = this.#agreed;
    const chunked = isStructured || isExtended ? FLAG.SEND_DF : 0;
    return always | writing | chunked | (isExtended ? FLAG.BLOCK_STATUS_PAYLOAD : 0);
  }

  #info(option: number, data: Buffer): "on" | "go" {
    const nameBytes = data.readUInt32BE(0);
    const count = data.readUInt16BE(4 + nameBytes);
    if (data.length !== 6 + nameBytes + 2 * count) throw new Malformed();
    const name = data.subarray(4, 4 + nameBytes).toString();
    if (name.length > 4096 && this.#server.has("gone-after-long-name")) this.#server.crash();
    if (name !== NAME) {
      const text = this.#server.has("error-text-too-long") ? "no".repeat(3000) : "no such export";
      this.#reply(option, REP.ERR_UNKNOWN, Buffer.from(text));
      return "on";
    }
    this.#infoCount += 1;
    const isOdd =
      option === OPT.GO && this.#infoCount > 1 && this.#server.has("go-differs-from-info");
    const flags = this.#flags() ^ (isOdd ? FLAG.ROTATIONAL : 0);
    if (!this.#server.has("info-without-export")) {
      this.#reply(option, REP.INFO, u16(INFO.EXPORT), u64(this.#claimedBytes), u16(flags));
    }
    const preferred = this.#server.has("preferred-block-odd") ? 5000 : 65536;
    const minimum = this.#server.settings.minimumBlock ?? 1;
    this.#reply(option, REP.INFO, u16(INFO.BLOCK_SIZE), u32(minimum), u32(preferred), u32(1 << 25));
    this.#reply(option, REP.ACK);
    return option === OPT.GO ? "go" : "on";
  }

  #starttls(data: Buffer): void {
    if (this.#server.settings.tls === undefined) return this.#reply(OPT.STARTTLS, REP.ERR_UNSUP);
    const isAgain = this.#isTls && !this.#server.has("starttls-twice");
    if (isAgain || data.length > 0) throw new Malformed();
    this.#reply(OPT.STARTTLS, REP.ACK);
    if (this.#isTls) return;
    const injected = this.stream.bufferedBytes > 0;
    this.#isTls = true;
    this.#agreed.stream = this.#server.secure(this.stream);
    if (injected && this.#server.has("injected-bytes-read"))
      this.#reply(OPT.STRUCTURED_REPLY, REP.ACK);
    if (this.#server.has("state-kept-through-starttls")) return;
    Object.assign(this.#agreed, { isStructured: false, isExtended: false, contextIds: [] });
  }

  #list(data: Buffer): void {
    if (data.length > 0 && !this.#server.has("list-with-data-accepted")) throw new Malformed();
    this.#reply(OPT.LIST, REP.SERVER, counted(NAME));
    this.#reply(OPT.LIST, REP.ACK);
  }

  #structured(data: Buffer): void {
    if (data.length > 0) throw new Malformed();
    if (this.#agreed.isExtended) return this.#reply(OPT.STRUCTURED_REPLY, REP.ERR_EXT_HEADER_REQD);
    this.#agreed.isStructured = true;
    this.#reply(OPT.STRUCTURED_REPLY, REP.ACK);
  }

  #extended(data: Buffer): void {
    if (data.length > 0) throw new Malformed();
    this.#agreed.isExtended = true;
    this.#reply(OPT.EXTENDED_HEADERS, REP.ACK);
  }

  #contexts(option: number, data: Buffer): void {
    const isSet = option === OPT.SET_META_CONTEXT;
    if (isSet && !this.#server.has("failed-set-keeps-contexts")) this.#agreed.contextIds = [];
    if (!this.#agreed.isStructured && !this.#agreed.isExtended) throw new Malformed();
    const { name, queries } = parseQueries(data, this.#server.has("query-length-believed"));
    const isOurs = name === NAME || this.#server.has("contexts-of-any-export");
    if (!isOurs) return this.#reply(option, REP.ERR_UNKNOWN);
    const isStrange = queries.some((query) => query.startsWith("x-unknown:"));
    if (isStrange && this.#server.has("unknown-namespace-refused")) throw new Malformed();
    const found = CONTEXTS.map((context, id) => ({ context, id })).filter(({ context }) =>
      isSet ? this.#selects(context, queries) : finds(context, queries),
    );
    const isShared = this.#server.has("contexts-share-an-id");
    for (const { context, id } of found) {
      this.#reply(option, REP.META_CONTEXT, u32(isShared ? 7 : id + 1), Buffer.from(context));
    }
    this.#reply(option, REP.ACK);
    if (isSet) this.#agreed.contextIds = found.map(({ id }) => id + 1);
  }

  #selects(context: string, queries: readonly string[]): boolean {
    const isWild = this.#server.has("wildcard-selects") && queries.includes("base:");
    return queries.includes(context) || (isWild && context.startsWith("base:"));
  }
}

function finds(context: string, queries: readonly string[]): boolean {
  const wildcard = context.slice(0, context.indexOf(":") + 1);
  return queries.length === 0 || queries.includes(context) || queries.includes(wildcard);
}

function parseQueries(data: Buffer, believes: boolean): { name: string; queries: string[] } {
  let at = 0;
  const string = (): string => {
    const lengthBytes = data.readUInt32BE(at);
    if (at + 4 + lengthBytes > data.length && !believes) throw new Malformed();
    const text = data.subarray(at + 4, at + 4 + lengthBytes).toString();
    at = Math.min(at + 4 + lengthBytes, data.length - (believes ? 4 : 0));
    return text;
  };
  const name = string();
  const count = data.readUInt32BE(at);
  at += 4;
  if (count > 100) throw new Malformed();
  const queries = Array.from({ length: count }, string);
  if (at !== data.length && !believes) throw new Malformed();
  return { name, queries };
}
