/** The small files of a medium, and how a file comes to be there whole or not at all. */
import { createHash } from "node:crypto";
import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { ChunkSealer, readSealedFile, type SealedPlace } from "./sealed-file.js";

const TEMPORARY_SUFFIX = ".part";
/** File systems of removable disks and shares may not know how to sync a directory. */
const CANNOT_SYNC = new Set(["EINVAL", "ENOTSUP", "EISDIR", "EPERM"]);

/** What is in a file of a medium, as anyone can check it who cannot read it. */
export interface FileSum {
  readonly fileBytes: number;
  /** Of the encrypted file, hex. */
  readonly sha256: string;
}

/** Durable with its name when it resolves, once the directory is synced too. */
export async function writeWhole(
  path: string,
  pieces: AsyncIterable<Uint8Array>,
): Promise<FileSum> {
  const hash = createHash("sha256");
  let fileBytes = 0;
  const temporary = path + TEMPORARY_SUFFIX;
  try {
    const handle = await open(temporary, "w", 0o600);
    try {
      for await (const piece of pieces) {
        hash.update(piece);
        fileBytes += piece.length;
        await handle.writeFile(piece);
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (thrown) {
    throw diskError(thrown, path);
  }
  return { fileBytes, sha256: hash.digest("hex") };
}

/** What was renamed in the directory before is durable when it resolves. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r").catch((thrown: unknown) => {
    throw diskError(thrown, path);
  });
  try {
    await handle.sync();
  } catch (thrown) {
    if (!CANNOT_SYNC.has((thrown as NodeJS.ErrnoException).code ?? ""))
      throw diskError(thrown, path);
  } finally {
    await handle.close();
  }
}

/** JSON, encrypted; durable with its name when it resolves. */
export async function writeSealed(
  path: string,
  place: SealedPlace,
  value: unknown,
): Promise<FileSum> {
  const sum = await writeWhole(path, sealed(Buffer.from(JSON.stringify(value)), place));
  await syncDirectory(dirname(path));
  return sum;
}

/** Null: there is none. */
export async function readSealed(path: string, place: SealedPlace): Promise<unknown> {
  const pieces: Buffer[] = [];
  try {
    for await (const piece of readSealedFile(path, place)) pieces.push(piece);
  } catch (thrown) {
    if (toTidemarkError(thrown).code === "NOT_FOUND") return null;
    throw thrown;
  }
  return JSON.parse(Buffer.concat(pieces).toString("utf8"));
}

/** Null: there is none. */
export async function readText(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw diskError(thrown, path);
  }
}

export function diskError(thrown: unknown, path: string): TidemarkError {
  if (thrown instanceof TidemarkError) return thrown;
  const { code, message } = thrown as NodeJS.ErrnoException;
  if (code === undefined) return toTidemarkError(thrown);
  if (code === "ENOENT" || code === "ENOTDIR") {
    return new TidemarkError("NOT_FOUND", `Cannot use ${path}: because it is not there.`, {
      hint: "Put the medium back in its place.",
      cause: thrown,
    });
  }
  const kind = code === "ENOSPC" || code === "EDQUOT" ? "NO_SPACE" : "IO_ERROR";
  return new TidemarkError(kind, `Cannot use ${path}: because ${message}.`, { cause: thrown });
}

async function* sealed(content: Buffer, place: SealedPlace): AsyncGenerator<Uint8Array> {
  const sealer = new ChunkSealer(place);
  yield sealer.header;
  yield* sealer.push(content);
  yield sealer.end();
}
