/** The export under test: how to reach it and what it offers. */
import type { ConnectionOptions } from "node:tls";
import { ByteStream } from "../client/byte-stream.js";
import { ConnectionEnded } from "../client/failures.js";
import { type BlockSize, type ExportInfo, Handshake } from "../client/handshake.js";
import { type NbdAddress, parseNbdUri, readTlsFiles } from "../client/nbd-address.js";
import { Transmission } from "../client/transmission.js";
import { FLAG, INFO, nameOf, OPT, PAYLOAD_BYTES, REP } from "../client/wire.js";

export type Style = Transmission["style"];

export interface Offers {
  readonly sizeBytes: bigint;
  /** With the richest reply style. */
  readonly flags: number;
  readonly blockSize: BlockSize | null;
  readonly styles: readonly Style[];
  readonly contexts: readonly string[];
  readonly tls: "none" | "optional" | "required";
}

export class Target {
  readonly uri: string;
  readonly address: NbdAddress;
  readonly tlsOptions: ConnectionOptions;
  /** Set by probe(). */
  offers: Offers = {
    sizeBytes: 0n,
    flags: 0,
    blockSize: null,
    styles: ["simple"],
    contexts: [],
    tls: "none",
  };

  private constructor(uri: string, address: NbdAddress, tlsOptions: ConnectionOptions) {
    this.uri = uri;
    this.address = address;
    this.tlsOptions = tlsOptions;
  }

  static async of(uri: string): Promise<Target> {
    const address = parseNbdUri(uri);
    const { ca, cert, key } = await readTlsFiles(address.certificates);
    const servername = address.socketPath === null ? address.host : "localhost";
    const trust = ca === null ? { rejectUnauthorized: false } : { ca };
    const identity = cert === null || key === null ? {} : { cert, key };
    const name = /^[\d.]+$|:/.test(servername) ? { host: servername } : { servername };
    const target = new Target(uri, address, { ...trust, ...identity, ...name });
    await target.#probe();
    return target;
  }

  get exportName(): string {
    return this.address.exportName;
  }

  get sizeBytes(): bigint {
    return this.offers.sizeBytes;
  }

  /** The minimum block: all offsets and lengths that must succeed are multiples of it. */
  get blockBytes(): number {
    return this.offers.blockSize?.minimum ?? 1;
  }

  get maximumBytes(): number {
    return this.offers.blockSize?.maximum ?? PAYLOAD_BYTES;
  }

  get isReadOnly(): boolean {
    return this.has(FLAG.READ_ONLY);
  }

  get richestStyle(): Style {
    return this.offers.styles.at(-1) ?? "simple";
  }

  has(flag: number): boolean {
    return (this.offers.flags & flag) !== 0;
  }

  stream(): Promise<ByteStream> {
    return ByteStream.connect(this.address);
  }

  /** Before any option. */
  async plainHandshake(clientFlags?: number): Promise<Handshake> {
    return Handshake.begin(await this.stream(), clientFlags);
  }

  /** Where the URI says so, after STARTTLS. */
  async handshake(clientFlags?: number): Promise<Handshake> {
    const handshake = await this.plainHandshake(clientFlags);
    if (!this.address.isTls) return handshake;
    const { final } = await handshake.ask(OPT.STARTTLS);
    if (final !== REP.ACK) throw new Error(`STARTTLS: ${nameOf(REP, final)}`);
    await handshake.secure(this.tlsOptions);
    return handshake;
  }

  async negotiate(handshake: Handshake, style: Style, contexts: readonly string[]): Promise<void> {
    if (style === "structured") await handshake.negotiateStructured();
    if (style === "extended") await handshake.negotiateExtended();
    if (contexts.length > 0) {
      await handshake.metaContexts(OPT.SET_META_CONTEXT, this.exportName, contexts);
    }
  }

  async go(handshake: Handshake): Promise<Transmission> {
    const { final, message, info } = await handshake.info(OPT.GO, this.exportName);
    if (final === REP.ERR_UNSUP) {
      return new Transmission(handshake, await handshake.exportName(this.exportName));
    }
    if (final !== REP.ACK || info === null) {
      throw new ConnectionEnded(`GO is refused with ${nameOf(REP, final)} ${message}`);
    }
    return new Transmission(handshake, info);
  }

  async #probe(): Promise<void> {
    const tls = await this.#probeTls();
    const styles: Style[] = ["simple"];
    const handshake = await this.handshake();
    if (await handshake.negotiateStructured()) styles.push("structured");
    const contexts =
      styles.length > 1
        ? (await handshake.metaContexts(OPT.LIST_META_CONTEXT, this.exportName, [])).contexts
        : [];
    if (await handshake.negotiateExtended()) styles.push("extended");
    const info = await this.#probeInfo(handshake);
    handshake.destroy();
    const names = contexts.map(({ name }) => name).filter((name) => !name.endsWith(":"));
    const { sizeBytes, flags, blockSize } = info;
    this.offers = { sizeBytes, flags, blockSize, styles, contexts: names, tls };
  }

  async #probeInfo(handshake: Handshake): Promise<ExportInfo> {
    const requests = [INFO.NAME, INFO.DESCRIPTION, INFO.BLOCK_SIZE];
    const { final, message, info } = await handshake.info(OPT.INFO, this.exportName, requests);
    if (info !== null) return info;
    if (final === REP.ERR_UNSUP) return handshake.exportName(this.exportName);
    const named = nameOf(REP, final);
    throw new Error(`the server refuses export "${this.exportName}": ${named} ${message}`.trim());
  }

  async #probeTls(): Promise<Offers["tls"]> {
    const handshake = await this.plainHandshake();
    const list = await handshake.ask(OPT.LIST).catch(() => null);
    handshake.destroy();
    if (list?.final === REP.ERR_TLS_REQD) return "required";
    const second = await this.plainHandshake();
    const starttls = await second.ask(OPT.STARTTLS).catch(() => null);
    second.destroy();
    return starttls?.final === REP.ACK ? "optional" : "none";
  }
}
