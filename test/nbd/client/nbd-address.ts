/** Where a server is, as an NBD URI says it (doc/uri.md of the NBD project). */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

const PORT = 10809;

export interface TlsFiles {
  readonly ca: Buffer | null;
  readonly cert: Buffer | null;
  readonly key: Buffer | null;
}

export interface NbdAddress {
  readonly socketPath: string | null;
  readonly host: string;
  readonly port: number;
  readonly exportName: string;
  /** nbds: everything is said after STARTTLS. */
  readonly isTls: boolean;
  /**
   * A directory with ca-cert.pem and, for clients that must show one, client-cert.pem
   * and client-key.pem; or with ca.crt, host.crt and host.key, as `tidemark pki` makes.
   */
  readonly certificates: string | null;
}

export function parseNbdUri(uri: string): NbdAddress {
  const match = /^(nbds?)(\+unix)?:\/\//.exec(uri);
  if (match === null) throw new Error(`not an NBD URI: ${uri}`);
  const url = new URL(uri);
  const socketPath = match[2] === undefined ? null : url.searchParams.get("socket");
  if (match[2] !== undefined && socketPath === null) {
    throw new Error(`a Unix NBD URI needs ?socket=PATH: ${uri}`);
  }
  return {
    socketPath,
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port === "" ? PORT : Number(url.port),
    exportName: decodeURIComponent(url.pathname.slice(1)),
    isTls: match[1] === "nbds",
    certificates: url.searchParams.get("tls-certificates"),
  };
}

export async function readTlsFiles(directory: string | null): Promise<TlsFiles> {
  const read = async (...names: readonly string[]) => {
    for (const name of directory === null ? [] : names) {
      const content = await readFile(join(directory ?? "", name)).catch(() => null);
      if (content !== null) return content;
    }
    return null;
  };
  return {
    ca: await read("ca-cert.pem", "ca.crt"),
    cert: await read("client-cert.pem", "host.crt"),
    key: await read("client-key.pem", "host.key"),
  };
}
