import { readFile } from "node:fs/promises";
import type { z } from "zod";
import { TidemarkError } from "../model/errors.js";

export interface DocumentKind {
  /** What each part of it is to be. */
  readonly what: string;
  readonly hint: string;
}

/** A file of the administrator's, checked. NOT_FOUND, IO_ERROR, VERSION_UNKNOWN, INVALID_ARGUMENT. */
export async function readJsonDocument<Schema extends z.ZodType>(
  path: string,
  schema: Schema,
  { what, hint }: DocumentKind,
): Promise<z.infer<Schema>> {
  const text = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    const code = cause.code === "ENOENT" ? "NOT_FOUND" : "IO_ERROR";
    throw new TidemarkError(code, `Cannot read ${path}: because ${cause.message}.`, { cause });
  });
  const parsed = schema.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue?.path.join(".") ?? "";
  throw new TidemarkError(
    where === "version" ? "VERSION_UNKNOWN" : "INVALID_ARGUMENT",
    `Cannot use ${path}: because ${where === "" ? "it" : where} is no ${what} (${issue?.message ?? "invalid"}).`,
    { hint },
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
