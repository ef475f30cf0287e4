import type { TidemarkError } from "../model/errors.js";
import type { RelationshipError } from "../model/relationship.js";

export function relationshipError(
  { code, message, hint, retryable }: TidemarkError,
  retryAtMs: number | null,
): RelationshipError {
  return { code, message, hint: hint ?? null, retryable, retryAtMs };
}
