import { resolve } from "node:path";

const NAMED = /^([A-Za-z0-9][A-Za-z0-9._-]{0,63})=(.+)$/s;
const URI = /^nbds?(\+[a-z]+)?:\/\//;

export interface DiskArgument {
  readonly name?: string;
  /** An absolute path or an NBD URI. */
  readonly path: string;
}

/** "PATH", "URI", "NAME=/PATH" or "NAME=URI"; a relative path may hold "=" itself. */
export function parseDisk(text: string): DiskArgument {
  const [, name, place] = NAMED.exec(text) ?? [];
  if (name !== undefined && place !== undefined && (place.startsWith("/") || URI.test(place))) {
    return { name, path: place };
  }
  return { path: URI.test(text) ? text : resolve(text) };
}
