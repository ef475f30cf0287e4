/** One named check of the suite, and what it can say. */
import { ConnectionEnded, NoAnswer, Violation } from "../client/failures.js";
import { Handshake } from "../client/handshake.js";
import { type Reply, Transmission } from "../client/transmission.js";
import { ERR, nameOf, OPT } from "../client/wire.js";
import type { Style, Target } from "./target.js";

/** A MUST that is broken, a SHOULD that is not followed, or something to know. */
export type Severity = "violation" | "deviation" | "note";

export interface Finding {
  readonly severity: Severity;
  readonly text: string;
}

export interface Check {
  readonly name: string;
  /** What a server does that passes. */
  readonly about: string;
  readonly run: (c: CheckContext) => Promise<void>;
}

export interface Settings {
  readonly seed: number;
  /** Of the data-integrity checks. */
  readonly operations: number;
}

const UNREACHABLE = new Set(["ECONNREFUSED", "ECONNRESET", "ENOENT", "EPIPE"]);

/** Thrown by a check whose subject the server does not have. */
export class NotOffered extends Error {}

export class CheckContext {
  readonly target: Target;
  readonly settings: Settings;
  readonly #findings = new Map<string, Finding>();
  readonly #open: (Handshake | Transmission)[] = [];

  constructor(target: Target, settings: Settings) {
    this.target = target;
    this.settings = settings;
  }

  get findings(): Finding[] {
    return [...this.#findings.values()];
  }

  must(holds: boolean, otherwise: string): void {
    if (!holds) this.#find("violation", otherwise);
  }

  should(holds: boolean, otherwise: string): void {
    if (!holds) this.#find("deviation", otherwise);
  }

  note(text: string): void {
    this.#find("note", text);
  }

  offered(holds: boolean, what: string): void {
    if (!holds) throw new NotOffered(what);
  }

  /** The error that the specification says SHOULD be given; success would be a violation. */
  refuses(reply: Reply, error: number, what: string): void {
    this.must(reply.error !== 0, `${what} succeeds`);
    const got = nameOf(ERR, reply.error);
    this.should(
      reply.error === 0 || reply.error === error,
      `${what}: ${got}, not ${nameOf(ERR, error)}`,
    );
  }

  succeeds(reply: Reply, what: string): void {
    this.must(reply.error === 0, `${what}: ${nameOf(ERR, reply.error)}`);
  }

  async plainHandshake(clientFlags?: number): Promise<Handshake> {
    return this.#kept(await this.target.plainHandshake(clientFlags));
  }

  async handshake(clientFlags?: number): Promise<Handshake> {
    return this.#kept(await this.target.handshake(clientFlags));
  }

  /** In the richest style that the server has, unless one is named. */
  async transmission(style?: Style, contexts: readonly string[] = []): Promise<Transmission> {
    const chosen = style ?? this.target.richestStyle;
    this.offered(this.target.offers.styles.includes(chosen), `${chosen} replies`);
    const handshake = await this.handshake();
    await this.target.negotiate(handshake, chosen, contexts);
    return this.#kept(await this.target.go(handshake));
  }

  /** For checks that write: an area at the start, and a style. */
  writable(sizeBytes: number): void {
    this.offered(!this.target.isReadOnly, "writing");
    this.offered(this.target.sizeBytes >= BigInt(sizeBytes), `an export of ${sizeBytes} bytes`);
  }

  /** After whatever came before, a new client is served. */
  async isAlive(after: string): Promise<void> {
    try {
      const client = await this.transmission();
      const length = this.target.sizeBytes < 4096n ? this.target.sizeBytes : 4096n;
      if (length > 0n) this.succeeds(await client.read(0, length), `a read after ${after}`);
      client.destroy();
    } catch (thrown) {
      this.must(false, `after ${after} a new client is not served: ${(thrown as Error).message}`);
    }
  }

  /** Options still get answers: the connection was kept. */
  async isAnswered(handshake: Handshake, after: string): Promise<void> {
    try {
      await handshake.info(OPT.INFO, this.target.exportName);
    } catch (thrown) {
      if (!(thrown instanceof ConnectionEnded)) throw thrown;
      this.must(false, `the connection ends after ${after}`);
    }
  }

  /** Requests still get answers: the connection was kept. */
  async isServed(client: Transmission, after: string): Promise<void> {
    try {
      const length = this.target.blockBytes;
      this.succeeds(await client.read(0, length), `a read after ${after}`);
    } catch (thrown) {
      if (!(thrown instanceof ConnectionEnded)) throw thrown;
      this.must(false, `the connection ends after ${after}`);
    }
  }

  /** Runs the check; what it throws is a finding too. */
  async run(check: Check): Promise<{ readonly notOffered: string | null }> {
    try {
      await check.run(this);
    } catch (thrown) {
      if (thrown instanceof NotOffered) return { notOffered: thrown.message };
      const isGone = UNREACHABLE.has((thrown as NodeJS.ErrnoException).code ?? "");
      if (isGone) this.must(false, `the server is gone: ${(thrown as Error).message}`);
      if (isGone) return { notOffered: null };
      const isFinding =
        thrown instanceof Violation ||
        thrown instanceof ConnectionEnded ||
        thrown instanceof NoAnswer;
      if (!isFinding) throw thrown;
      this.must(false, thrown.message);
    } finally {
      this.#close();
    }
    return { notOffered: null };
  }

  #close(): void {
    for (const open of this.#open) {
      if (open instanceof Transmission)
        for (const remark of open.remarks) this.should(false, remark);
      open.destroy();
    }
  }

  #kept<T extends Handshake | Transmission>(opened: T): T {
    this.#open.push(opened);
    return opened;
  }

  #find(severity: Severity, text: string): void {
    this.#findings.set(`${severity} ${text}`, { severity, text });
  }
}
