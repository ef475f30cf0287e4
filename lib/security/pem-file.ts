import { readFile } from "node:fs/promises";
import { TidemarkError } from "../model/errors.js";

const LIMIT_BYTES = 1024 * 1024;

export async function readPem(path: string, what: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, { encoding: "latin1" });
  } catch (thrown) {
    throw unreadable(path, what, thrown as NodeJS.ErrnoException);
  }
  if (text.length > LIMIT_BYTES || !text.includes("-----BEGIN ")) {
    throw new TidemarkError(
      "CORRUPT",
      `Cannot use the ${what} ${path}: because it is not a PEM file.`,
      { hint: "Give the file in PEM format." },
    );
  }
  return text;
}

function unreadable(path: string, what: string, cause: NodeJS.ErrnoException): TidemarkError {
  if (cause.code === "ENOENT") {
    return new TidemarkError(
      "NOT_FOUND",
      `Cannot read the ${what}: because ${path} is not there.`,
      { hint: "Make certificates with `tidemark pki init` and `tidemark pki issue`.", cause },
    );
  }
  const code = cause.code === "EACCES" ? "FORBIDDEN" : "IO_ERROR";
  return new TidemarkError(code, `Cannot read the ${what} ${path}: because ${cause.message}.`, {
    cause,
  });
}
