/**
 * The form of all of the store's small files: a line that names the format, its
 * version and the SHA-256 of the rest, then the content as JSON.
 *
 * They are replaced whole (temporary name, sync, rename, sync of the
 * directory): after a crash there is the old content or the new. A file that
 * does not fit its checksum was damaged later.
 */
import { createHash } from "node:crypto";
import { dirname } from "node:path";
import { TidemarkError } from "../model/errors.js";
import type { StoreFiles } from "./store-files.js";

export interface DocumentFormat<Body> {
  readonly name: string;
  readonly version: number;
  /** Makes today's content of what an earlier version wrote; missing: there was none. */
  readonly upgrade?: (body: Body) => Body;
}

interface Seal {
  readonly format: string;
  readonly version: number;
  readonly sha256: string;
}

export const TEMPORARY_SUFFIX = ".tmp";

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

export function encodeDocument<Body>(format: DocumentFormat<Body>, body: Body): Buffer {
  const text = `${JSON.stringify(body)}\n`;
  const seal: Seal = { format: format.name, version: format.version, sha256: sha256(text) };
  return Buffer.from(`${JSON.stringify(seal)}\n${text}`);
}

/** CORRUPT, FOREIGN (another format), VERSION_UNKNOWN. */
export function decodeDocument<Body>(
  format: DocumentFormat<Body>,
  bytes: Buffer,
  path: string,
): Body {
  const text = bytes.toString("utf8");
  const firstLineEnd = text.indexOf("\n") + 1;
  const seal = parseSeal(text.slice(0, firstLineEnd), path);
  if (seal.format !== format.name) {
    throw new TidemarkError(
      "FOREIGN",
      `Cannot read ${path}: because it is a ${seal.format}, not a ${format.name}.`,
    );
  }
  const isEarlier = seal.version >= 1 && seal.version < format.version;
  if (seal.version !== format.version && !(isEarlier && format.upgrade !== undefined)) {
    throw new TidemarkError(
      "VERSION_UNKNOWN",
      `Cannot read ${path}: because its format is version ${seal.version} and this build knows ${format.version}.`,
      { hint: "Run the Tidemark version that wrote it, or a newer one." },
    );
  }
  const body = text.slice(firstLineEnd);
  if (seal.sha256 !== sha256(body)) throw damaged(path, "its checksum does not fit");
  const content = JSON.parse(body) as Body;
  return isEarlier ? (format.upgrade?.(content) ?? content) : content;
}

export async function readDocument<Body>(
  files: StoreFiles,
  format: DocumentFormat<Body>,
  path: string,
): Promise<Body> {
  return decodeDocument(format, await files.read(path), path);
}

/** Durable, with its name, when it resolves. `beforeStep` is for crash tests. */
export async function writeDocument<Body>(
  files: StoreFiles,
  format: DocumentFormat<Body>,
  path: string,
  body: Body,
  beforeStep: (step: "sync" | "rename") => void = () => {},
): Promise<void> {
  const temporary = path + TEMPORARY_SUFFIX;
  beforeStep("sync");
  await files.writeSynced(temporary, encodeDocument(format, body));
  beforeStep("rename");
  await files.rename(temporary, path);
  await files.syncDirectory(dirname(path));
}

function parseSeal(line: string, path: string): Seal {
  try {
    const seal = JSON.parse(line) as Partial<Seal> | null;
    if (typeof seal?.format === "string" && typeof seal.version === "number") return seal as Seal;
  } catch {
    // Answered below, as any other first line that is none.
  }
  throw damaged(path, "its first line is not that of a store file");
}

function damaged(path: string, reason: string): TidemarkError {
  return new TidemarkError("CORRUPT", `Cannot read ${path}: because ${reason}.`, {
    hint: "Check the storage it is on.",
  });
}
