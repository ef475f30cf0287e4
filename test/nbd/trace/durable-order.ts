/**
 * Whether the system calls of a server keep its promises: no reply to a FLUSH
 * leaves before an fdatasync has ended that began after all that was answered
 * before the FLUSH arrived had been written; none to a FUA write before its own
 * bytes are on the disk. The promises are the specification's; nothing here
 * knows how the server is built.
 */
import { bytesOf, type SystemCall } from "./system-calls.js";

const REPLY_MAGIC = 0x67446698;
const REQUEST_MAGIC = 0x25609513;
const REPLY_BYTES = 16;

export interface SentRequest {
  readonly kind: "write" | "flush";
  readonly cookie: bigint;
  /** Of a write: no other has it. */
  readonly offset: number;
  readonly isFua: boolean;
}

interface Sync {
  readonly beganAt: number;
  readonly endedAt: number;
}

export class DurableOrder {
  readonly #syncs: readonly Sync[];
  readonly #writes: readonly SystemCall[];
  readonly #received: ReadonlyMap<bigint, number>;
  readonly #replied: ReadonlyMap<bigint, number>;
  readonly #requests: readonly SentRequest[];

  constructor(calls: readonly SystemCall[], diskPath: string, requests: readonly SentRequest[]) {
    const onDisk = calls.filter((call) => call.arguments.includes(tracedPath(diskPath)));
    const isSync = ({ name, result }: SystemCall) =>
      /^f(data)?sync$/.test(name) && result.startsWith("0");
    this.#syncs = onDisk.filter(isSync);
    this.#writes = onDisk.filter(({ name }) => /^(pwrite|fallocate)/.test(name));
    this.#requests = requests;
    this.#received = cookiePlaces(calls, /^(recv|read)/, REQUEST_MAGIC, 8, "endedAt");
    this.#replied = cookiePlaces(calls, /^(send|write)/, REPLY_MAGIC, 8, "beganAt");
  }

  get syncCount(): number {
    return this.#syncs.length;
  }

  get writeCount(): number {
    return this.#writes.length;
  }

  /** Requests whose reply was seen. */
  get answeredCount(): number {
    return this.#requests.filter(({ cookie }) => this.#replied.has(cookie)).length;
  }

  /** What was answered too early. */
  brokenPromises(): string[] {
    return this.#requests.flatMap((request) => {
      const repliedAt = this.#replied.get(request.cookie);
      if (repliedAt === undefined)
        return [`request 0x${request.cookie.toString(16)} is not in the trace`];
      if (request.kind === "flush") return this.#brokenFlush(request, repliedAt);
      return request.isFua ? this.#brokenFua(request, repliedAt) : [];
    });
  }

  #brokenFlush({ cookie }: SentRequest, repliedAt: number): string[] {
    const receivedAt = this.#received.get(cookie) ?? repliedAt;
    const covered = this.#requests.filter((request) => {
      const answeredAt = this.#replied.get(request.cookie);
      return request.kind === "write" && answeredAt !== undefined && answeredAt < receivedAt;
    });
    const writtenAt = Math.max(-1, ...covered.map((request) => this.#writtenAt(request)));
    const isCovered = this.#syncs.some(
      ({ beganAt, endedAt }) => beganAt > writtenAt && endedAt < repliedAt,
    );
    if (isCovered) return [];
    return [
      `FLUSH 0x${cookie.toString(16)} is answered before a sync that covers ${covered.length} writes`,
    ];
  }

  #brokenFua(request: SentRequest, repliedAt: number): string[] {
    const own = this.#writesAt(request.offset).filter(({ endedAt }) => endedAt < repliedAt);
    const writtenAt = Math.max(-1, ...own.map(({ endedAt }) => endedAt));
    const isDurable = own.some(
      (call) => call.name === "pwritev2" && call.arguments.includes("RWF_DSYNC"),
    );
    const isSynced = this.#syncs.some(
      ({ beganAt, endedAt }) => beganAt > writtenAt && endedAt < repliedAt,
    );
    if (own.length > 0 && (isDurable || isSynced)) return [];
    return [`FUA 0x${request.cookie.toString(16)} is answered before its bytes are durable`];
  }

  /** Where its system call ended; where none shows (a ring wrote it), its reply, which is later. */
  #writtenAt(request: SentRequest): number {
    const own = this.#writesAt(request.offset);
    if (own.length > 0) return Math.max(...own.map(({ endedAt }) => endedAt));
    return this.#replied.get(request.cookie) ?? 0;
  }

  #writesAt(offset: number): SystemCall[] {
    return this.#writes.filter((call) => new RegExp(`, ${offset}(?:,|$)`).test(call.arguments));
  }
}

/** `strace -xx -y` writes paths as it writes strings. */
function tracedPath(path: string): string {
  const hex = Buffer.from(path).toString("hex");
  return `<${hex.replaceAll(/../g, "\\x$&")}>`;
}

/** Where in the trace each cookie goes by, behind the magic of a request or a reply. */
function cookiePlaces(
  calls: readonly SystemCall[],
  names: RegExp,
  magic: number,
  cookieOffset: number,
  place: "beganAt" | "endedAt",
): Map<bigint, number> {
  const wanted = Buffer.alloc(4);
  wanted.writeUInt32BE(magic);
  const places = new Map<bigint, number>();
  for (const call of calls.filter(({ name }) => names.test(name))) {
    const bytes = bytesOf(call);
    for (let at = bytes.indexOf(wanted); at !== -1; at = bytes.indexOf(wanted, at + 1)) {
      if (at + REPLY_BYTES > bytes.length) break;
      const cookie = bytes.readBigUInt64BE(at + cookieOffset);
      if (!places.has(cookie)) places.set(cookie, call[place]);
    }
  }
  return places;
}
