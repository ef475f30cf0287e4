import type { TidemarkError } from "../model/errors.js";
import type { Problem } from "./schemas.js";

/** An error as it travels. */
export function problemOf({ code, message, hint, retryable }: TidemarkError): Problem {
  return { code, message, hint: hint ?? null, retryable };
}
