import { z } from "zod";
import { type ErrorCode, TidemarkError, isErrorCode, toTidemarkError } from "../model/errors.js";

/** A TidemarkError on its way to another host or thread. */
export interface ErrorBody {
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
  readonly retryable: boolean;
}

export const errorBodySchema: z.ZodType<ErrorBody> = z.object({
  code: z.string().max(64),
  message: z.string().max(4096),
  hint: z.string().max(4096).nullable(),
  retryable: z.boolean(),
});

export function toErrorBody(thrown: unknown): ErrorBody {
  const { code, message, hint, retryable } = toTidemarkError(thrown);
  return { code, message: message.slice(0, 4096), hint: hint ?? null, retryable };
}

/** A code that this build does not know becomes INTERNAL and is named. */
export function fromErrorBody(body: ErrorBody): TidemarkError {
  const known = isErrorCode(body.code);
  const message = known ? body.message : `${body.message} (${body.code})`;
  return new TidemarkError(known ? (body.code as ErrorCode) : "INTERNAL", message, {
    retryable: body.retryable,
    ...(body.hint === null ? {} : { hint: body.hint }),
  });
}

const STATUSES: Partial<Record<ErrorCode, number>> = {
  INVALID_ARGUMENT: 400,
  VERSION_UNKNOWN: 400,
  UNAUTHENTICATED: 401,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  TIMED_OUT: 408,
  ALREADY_EXISTS: 409,
  CONFLICT: 409,
  FENCED: 409,
  IN_USE: 409,
  PARENT_MISMATCH: 409,
  STAGING_LOST: 409,
  LIMIT_REACHED: 413,
  UNSUPPORTED: 415,
  CORRUPT: 422,
  FOREIGN: 422,
  TRUNCATED: 422,
  CANCELLED: 503,
  CLOSED: 503,
  NO_SPACE: 507,
};

/** For proxies and logs; a client goes by the body's code. */
export function httpStatus(code: string): number {
  return (isErrorCode(code) ? STATUSES[code] : undefined) ?? 500;
}
