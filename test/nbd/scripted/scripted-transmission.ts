import {
  CHUNK,
  CMD,
  CMD_FLAG,
  ERR,
  MAGIC,
  PAYLOAD_BYTES,
  REPLY_FLAG_DONE,
  STATE,
  u16,
  u32,
  u64,
} from "../client/wire.js";
import type { ByteStream } from "../client/byte-stream.js";
import type { Agreed } from "./scripted-handshake.js";
import type { ScriptedServer } from "./scripted-server.js";
import type { DefectName } from "./defects.js";

const NEVER_MS = 60_000;
const HOLE_BYTES = 4096;
const EXTENTS_MAX = 4096;

interface Request {
  readonly command: number;
  readonly flags: number;
  readonly cookie: bigint;
  readonly offset: bigint;
  readonly length: bigint;
  readonly payload: Buffer | null;
}

/** Which flags each command may carry. */
const ALLOWED: Readonly<Record<number, number>> = {
  [CMD.READ]: CMD_FLAG.FUA | CMD_FLAG.DF,
  [CMD.WRITE]: CMD_FLAG.FUA | CMD_FLAG.PAYLOAD_LEN,
  [CMD.FLUSH]: CMD_FLAG.FUA,
  [CMD.TRIM]: CMD_FLAG.FUA,
  [CMD.CACHE]: CMD_FLAG.FUA,
  [CMD.WRITE_ZEROES]: CMD_FLAG.FUA | CMD_FLAG.NO_HOLE | CMD_FLAG.FAST_ZERO,
  [CMD.BLOCK_STATUS]: CMD_FLAG.FUA | CMD_FLAG.REQ_ONE | CMD_FLAG.PAYLOAD_LEN,
};
const WRITING: readonly number[] = [CMD.WRITE, CMD.TRIM, CMD.WRITE_ZEROES];

export class ScriptedTransmission {
  readonly #server: ScriptedServer;
  readonly #agreed: Agreed;
  readonly #stream: ByteStream;
  #disk: Buffer;
  #writes = 0;

  constructor(server: ScriptedServer, agreed: Agreed) {
    this.#server = server;
    this.#agreed = agreed;
    this.#stream = agreed.stream;
    this.#disk = this.#has("writes-not-shared") ? Buffer.from(server.disk) : server.disk;
  }

  async run(): Promise<void> {
    let isOver = false;
    for (;;) {
      const request = await this.#take();
      if (request === null) return;
      if (request.command === CMD.DISC) {
        if (this.#has("stays-after-disc")) await this.#stream.take(1 << 30, 5000);
        if (!this.#has("serves-after-disc")) return;
        isOver = true;
        continue;
      }
      this.#answer(request);
      if (isOver) return;
    }
  }

  #has(defect: DefectName): boolean {
    return this.#server.has(defect);
  }

  async #take(): Promise<Request | null> {
    const { isExtended } = this.#agreed;
    const header = await this.#stream.take(isExtended ? 32 : 28, NEVER_MS);
    const magic = isExtended ? MAGIC.EXTENDED_REQUEST : MAGIC.REQUEST;
    if (header.readUInt32BE(0) !== magic) return null;
    const [flags, command] = [header.readUInt16BE(4), header.readUInt16BE(6)];
    const wide = isExtended ? header.readBigUInt64BE(24) : BigInt(header.readUInt32BE(24));
    const length = this.#has("extended-length-cut") ? wide & 0xffff_ffffn : wide;
    const carries = isExtended ? (flags & CMD_FLAG.PAYLOAD_LEN) !== 0 : command === CMD.WRITE;
    if (carries && length > BigInt(PAYLOAD_BYTES * 2)) return null;
    const isLeft = this.#has("payload-not-taken") && command !== CMD.WRITE;
    const payload = carries && !isLeft ? await this.#stream.take(Number(length), NEVER_MS) : null;
    const cookie = header.readBigUInt64BE(8);
    const given = this.#has("cookie-cut") ? cookie & 0xffff_ffffn : cookie;
    return { command, flags, cookie: given, offset: header.readBigUInt64BE(16), length, payload };
  }

  #answer(request: Request): void {
    const error = this.#errorOf(request);
    if (error !== 0) {
      if (this.#has("error-ends-connection")) throw new Error("as scripted");
      this.#fail(request, error);
    } else if (request.command === CMD.READ) this.#read(request);
    else if (request.command === CMD.BLOCK_STATUS) this.#status(request);
    else this.#change(request);
  }

  #errorOf(request: Request): number {
    const { command, flags, payload } = request;
    const allowed = ALLOWED[command];
    if (allowed === undefined) return this.#has("unknown-command-succeeds") ? 0 : ERR.EINVAL;
    const cacheIsLax = command === CMD.CACHE && this.#has("cache-flags-ignored");
    const fits =
      this.#agreed.isStructured || this.#agreed.isExtended ? allowed : allowed & ~CMD_FLAG.DF;
    const isLax = this.#has("flags-ignored") || cacheIsLax;
    if ((flags & ~fits) !== 0 && !isLax) return ERR.EINVAL;
    if ((flags & CMD_FLAG.FUA) !== 0 && this.#has("fua-refused")) return ERR.EINVAL;
    if (this.#agreed.isExtended && command === CMD.WRITE && payload === null) return ERR.EINVAL;
    if (payload !== null && command !== CMD.WRITE && command !== CMD.BLOCK_STATUS)
      return ERR.EINVAL;
    const isReadOnly = this.#server.settings.isReadOnly === true && !this.#has("read-only-written");
    if (isReadOnly && WRITING.includes(command)) return ERR.EPERM;
    if ((flags & CMD_FLAG.NO_HOLE) !== 0 && this.#has("no-hole-refused")) return ERR.ENOTSUP;
    return command === CMD.BLOCK_STATUS ? this.#statusError(request) : this.#rangeError(request);
  }

  #rangeError({ command, offset, length }: Request): number {
    if (command === CMD.FLUSH) return 0;
    const minimum = BigInt(this.#server.settings.minimumBlock ?? 1);
    const isAligned = offset % minimum === 0n && length % minimum === 0n;
    if (!isAligned && !this.#has("unaligned-written")) return ERR.EINVAL;
    if (offset + length <= BigInt(this.#disk.length)) return 0;
    if (command === CMD.READ && this.#has("read-past-end") && length <= 65536n) return 0;
    const isSpace = command === CMD.WRITE || command === CMD.WRITE_ZEROES;
    return isSpace && !this.#has("write-past-end-einval") ? ERR.ENOSPC : ERR.EINVAL;
  }

  #statusError(request: Request): number {
    const { offset, payload, length } = request;
    const ids = this.#agreed.contextIds;
    if (ids.length === 0) return this.#has("status-without-context") ? ERR.EIO : ERR.EINVAL;
    let effect = length;
    if (payload !== null) {
      if (payload.length < 8 || payload.length % 4 !== 0) return ERR.EINVAL;
      const asked = idsOf(payload);
      const isTwice = new Set(asked).size < asked.length && !this.#has("filter-takes-duplicates");
      if (isTwice || asked.some((id) => !ids.includes(id))) return ERR.EINVAL;
      effect = payload.readBigUInt64BE(0);
    }
    if (effect === 0n) return ERR.EINVAL;
    const isPast = offset + effect > BigInt(this.#disk.length);
    return isPast && !this.#has("status-past-end") ? ERR.EINVAL : 0;
  }

  // ---- replies --------------------------------------------------------------

  #chunk(
    { cookie, offset }: Request,
    flags: number,
    type: number,
    ...payload: readonly Buffer[]
  ): void {
    const body = Buffer.concat(payload);
    const common = [u16(flags), u16(type), u64(cookie)];
    if (!this.#agreed.isExtended) {
      this.#stream.write(u32(MAGIC.STRUCTURED_REPLY), ...common, u32(body.length), body);
      return;
    }
    const echoed = this.#has("extended-offset-missing") ? 0n : offset;
    this.#stream.write(u32(MAGIC.EXTENDED_REPLY), ...common, u64(echoed), u64(body.length), body);
  }

  #simple({ cookie }: Request, error: number, data: Buffer = Buffer.alloc(0)): void {
    this.#stream.write(u32(MAGIC.SIMPLE_REPLY), u32(error), u64(cookie), data);
  }

  #fail(request: Request, error: number): void {
    const isRead = request.command === CMD.READ;
    const { isStructured, isExtended } = this.#agreed;
    const isSimple = isRead ? this.#has("failed-read-simple") || !isStructured : true;
    if (!isExtended && isSimple) this.#simple(request, error);
    else this.#chunk(request, REPLY_FLAG_DONE, CHUNK.ERROR, u32(error), u16(3), Buffer.from("no!"));
  }

  #done(request: Request): void {
    const isSimple = !this.#agreed.isExtended || this.#has("extended-simple-reply");
    if (isSimple) this.#simple(request, 0);
    else this.#chunk(request, REPLY_FLAG_DONE, CHUNK.NONE);
  }

  #read(request: Request): void {
    const at = Number(request.offset);
    const data = Buffer.alloc(Number(request.length));
    if (at < this.#disk.length) this.#disk.copy(data, 0, at, at + data.length);
    const { isStructured, isExtended } = this.#agreed;
    if (!isStructured && !isExtended) return this.#simple(request, 0, data);
    if (data.length === 0) return this.#chunk(request, REPLY_FLAG_DONE, CHUNK.NONE);
    const isWhole = (request.flags & CMD_FLAG.DF) !== 0 && !this.#has("df-fragmented");
    const cuts = isWhole ? [0] : this.#cutsOf(data);
    for (const [index, from] of cuts.entries()) {
      const to = cuts[index + 1] ?? data.length;
      this.#content(request, from, data.subarray(from, to), isWhole);
    }
    if (this.#has("chunks-overlap")) this.#content(request, 0, data.subarray(0, 1), true);
    this.#chunk(request, this.#has("last-chunk-not-done") ? 0 : REPLY_FLAG_DONE, CHUNK.NONE);
  }

  /** Where data and zeroes meet, at multiples of 4 KiB; at least two pieces. */
  #cutsOf(data: Buffer): number[] {
    const cuts = [0];
    let wasZero = isZero(data.subarray(0, HOLE_BYTES));
    for (let at = HOLE_BYTES; at < data.length; at += HOLE_BYTES) {
      const isHole = isZero(data.subarray(at, at + HOLE_BYTES));
      if (isHole !== wasZero || at === HOLE_BYTES) cuts.push(at);
      wasZero = isHole;
    }
    return cuts;
  }

  #content(request: Request, from: number, data: Buffer, isData: boolean): void {
    const at = request.offset + BigInt(from);
    const lies = this.#has("hole-holds-data") && from > 0;
    const isGap = this.#has("chunks-leave-a-gap") && from > 0;
    if (isGap) return;
    if (!isData && (isZero(data) || lies)) {
      this.#chunk(request, 0, CHUNK.OFFSET_HOLE, u64(at), u32(data.length));
    } else {
      this.#chunk(request, 0, CHUNK.OFFSET_DATA, u64(at), data);
    }
  }

  // ---- changes --------------------------------------------------------------

  #change(request: Request): void {
    const { command, flags, payload } = request;
    const [at, length] = [Number(request.offset), Number(request.length)];
    if (command === CMD.WRITE && payload !== null) {
      this.#write(at, payload);
      const { failsEach } = this.#server.settings;
      if (failsEach !== undefined && this.#writes % failsEach === 0)
        return this.#fail(request, ERR.EIO);
    }
    if (command === CMD.TRIM) this.#trim(at, length);
    if (command === CMD.WRITE_ZEROES) {
      const isFast = (flags & CMD_FLAG.FAST_ZERO) !== 0;
      if (isFast && this.#has("fast-zero-einval")) return this.#fail(request, ERR.EINVAL);
      this.#zero(at, length);
      if (isFast && this.#has("fast-zero-changes")) return this.#fail(request, ERR.ENOTSUP);
    }
    this.#done(request);
  }

  #write(at: number, data: Buffer): void {
    this.#writes += 1;
    const { isStructured, isExtended } = this.#agreed;
    const loses =
      this.#has("writes-lost") ||
      (this.#has("writes-lost-in-structured") && isStructured) ||
      (this.#has("writes-lost-in-extended") && isExtended);
    const isLost = loses && this.#writes % 10 === 0;
    if (!isLost) data.copy(this.#disk, at);
  }

  #zero(at: number, length: number): void {
    const less = this.#has("zeroes-too-short") && length > 1 ? 1 : 0;
    const more = this.#has("zeroes-too-long") ? 1 : 0;
    this.#disk.fill(0, at, at + length - less + more);
  }

  #trim(at: number, length: number): void {
    const rounds = this.#has("trim-rounds-outward") ? HOLE_BYTES : 0;
    this.#disk.fill(0, Math.max(0, at - rounds), at + length + rounds);
  }

  // ---- block status ---------------------------------------------------------

  #status(request: Request): void {
    const { payload, offset } = request;
    const length = payload === null ? request.length : payload.readBigUInt64BE(0);
    const isFiltered = payload !== null && !this.#has("filter-ignored");
    const ids = isFiltered ? idsOf(payload) : this.#agreed.contextIds;
    for (const [index, id] of ids.entries()) {
      const isLast = index === ids.length - 1;
      const all = this.#extents(Number(offset), Number(length), id);
      const isOne = (request.flags & CMD_FLAG.REQ_ONE) !== 0;
      const extents = isOne ? all.slice(0, 1) : all;
      if (isOne && this.#has("req-one-ignored")) extents.push({ length: 1, flags: 0 });
      if (this.#has("extent-of-0-bytes")) extents.push({ length: 0, flags: 1 });
      this.#statusChunk(request, isLast ? REPLY_FLAG_DONE : 0, id, extents);
    }
    if (ids.length === 0) this.#done(request);
  }

  #extents(at: number, length: number, id: number): { length: number; flags: number }[] {
    if (id !== 1) return [{ length, flags: 0 }];
    const found: { length: number; flags: number }[] = [];
    const end = Math.min(at + length, this.#disk.length);
    for (let from = at; from < end && found.length < EXTENTS_MAX; ) {
      const to = Math.min(end, (Math.floor(from / HOLE_BYTES) + 1) * HOLE_BYTES);
      const isHole = isZero(this.#disk.subarray(from, to)) || this.#has("data-said-zero");
      const flags = isHole ? STATE.ZERO : 0;
      const last = found.at(-1);
      if (last?.flags === flags) last.length += to - from;
      else found.push({ length: to - from, flags });
      from = to;
    }
    return found.length === 0 ? [{ length: 1, flags: 0 }] : found;
  }

  #statusChunk(
    request: Request,
    flags: number,
    id: number,
    extents: readonly { length: number; flags: number }[],
  ): void {
    if (this.#agreed.isExtended && !this.#has("narrow-status")) {
      const wide = extents.map((extent) => Buffer.concat([u64(extent.length), u64(extent.flags)]));
      this.#chunk(request, flags, CHUNK.BLOCK_STATUS_EXT, u32(id), u32(wide.length), ...wide);
    } else {
      const narrow = extents.map((extent) =>
        Buffer.concat([u32(extent.length), u32(extent.flags)]),
      );
      this.#chunk(request, flags, CHUNK.BLOCK_STATUS, u32(id), ...narrow);
    }
  }
}

const ZEROES = Buffer.alloc(1 << 16);

function isZero(data: Buffer): boolean {
  for (let at = 0; at < data.length; at += ZEROES.length) {
    const piece = data.subarray(at, at + ZEROES.length);
    if (!piece.equals(ZEROES.subarray(0, piece.length))) return false;
  }
  return true;
}

function idsOf(payload: Buffer): number[] {
  return Array.from({ length: (payload.length - 8) / 4 }, (_, index) =>
    payload.readUInt32BE(8 + index * 4),
  );
}
