import type { z } from "zod";
import { TidemarkError } from "../model/errors.js";
import { DELTA_FORMAT_VERSION } from "../model/delta.js";

/** Checks what a peer asks; `purpose` completes "Cannot ...". */
export function parseRequest<T>(schema: z.ZodType<T>, value: unknown, purpose: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  if (issue?.path.at(-1) === "formatVersion") throw formatUnknown(value, purpose);
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot ${purpose}: because the request is not acceptable (${describe(issue)}).`,
    { hint: "Check that both hosts run the same version of Tidemark." },
  );
}

/** Checks what a peer answers. */
export function parseAnswer<T>(schema: z.ZodType<T>, value: unknown, purpose: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new TidemarkError(
    "INTERNAL",
    `Cannot ${purpose}: because the peer's answer is not understood (${describe(result.error.issues[0])}).`,
    { hint: "Check that both hosts run the same version of Tidemark." },
  );
}

function describe(issue: z.core.$ZodIssue | undefined): string {
  if (issue === undefined) return "unknown";
  const where = issue.path.map(String).join(".").slice(0, 100);
  return `${where === "" ? "" : `${where}: `}${issue.message.slice(0, 200)}`;
}

function formatUnknown(value: unknown, purpose: string): TidemarkError {
  const asked = String((value as { formatVersion?: unknown }).formatVersion).slice(0, 20);
  return new TidemarkError(
    "VERSION_UNKNOWN",
    `Cannot ${purpose}: because it is in format version ${asked} and this host knows version ${DELTA_FORMAT_VERSION}.`,
    { hint: "Bring both hosts to the same version of Tidemark, the replica first." },
  );
}
