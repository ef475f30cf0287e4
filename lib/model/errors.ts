/**
 * The typed errors of Tidemark.
 *
 * `code` is stable and part of the public API; docs/errors.md is generated from
 * `ERROR_CODES`. A message reads "Cannot X: because Y."; `hint` says what to do.
 */
export const ERROR_CODES = {
  INVALID_ARGUMENT: { retryable: false, meaning: "An argument or a setting is not acceptable." },
  NOT_FOUND: {
    retryable: false,
    meaning: "The named file, VM, disk or recovery point is not there.",
  },
  ALREADY_EXISTS: { retryable: false, meaning: "It is there already and would be overwritten." },
  IN_USE: { retryable: true, meaning: "Another process or object holds it." },
  NO_SPACE: { retryable: true, meaning: "A file system or a stated budget is full." },
  IO_ERROR: { retryable: true, meaning: "The operating system refused an I/O operation." },
  READ_ONLY: { retryable: false, meaning: "Writing is not permitted there." },
  UNSUPPORTED: { retryable: false, meaning: "This build, kernel or device cannot do it." },
  CORRUPT: {
    retryable: false,
    meaning: "A checksum or an invariant of a file or stream does not hold.",
  },
  TRUNCATED: { retryable: false, meaning: "A file or stream ends before its stated end." },
  FOREIGN: {
    retryable: false,
    meaning: "The file is intact but belongs to another disk, VM or lineage.",
  },
  VERSION_UNKNOWN: {
    retryable: false,
    meaning: "A format or protocol version that this build does not know.",
  },
  CLOSED: { retryable: false, meaning: "Used after close()." },
  TIMED_OUT: { retryable: true, meaning: "It did not end within its time." },
  BYPASSED: {
    retryable: true,
    meaning: "The VM's writes may go past Tidemark: nothing is replicated meanwhile.",
  },
  CAPTURE_BROKEN: {
    retryable: true,
    meaning: "The frozen content of a checkpoint is lost; the dirty bits are kept.",
  },
  LIMIT_REACHED: { retryable: false, meaning: "A stated limit is exhausted." },
  UNREACHABLE: { retryable: true, meaning: "The peer does not answer." },
  UNAUTHENTICATED: {
    retryable: false,
    meaning: "The peer's certificate is missing or not accepted.",
  },
  FORBIDDEN: { retryable: false, meaning: "The peer is known but may not do that." },
  FENCED: {
    retryable: false,
    meaning: "A newer generation exists: this side's writes are refused.",
  },
  HANDED_OVER: {
    retryable: false,
    meaning: "It was handed over: only its new holder may use it.",
  },
  STALE: { retryable: false, meaning: "The file is intact but older than what is there." },
  PARENT_MISMATCH: { retryable: false, meaning: "The delta does not follow the replica's head." },
  CONFLICT: { retryable: false, meaning: "The operation does not fit the present state." },
  STAGING_LOST: {
    retryable: true,
    meaning: "The replica does not hold the staging session any more.",
  },
  CANCELLED: { retryable: true, meaning: "Stopped by the caller." },
  INTERNAL: { retryable: false, meaning: "A defect of Tidemark; please report it." },
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface TidemarkErrorOptions {
  /** What the reader should do about it; one sentence in the imperative. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** Overrides the code's own answer. */
  readonly retryable?: boolean;
}

export class TidemarkError extends Error {
  override readonly name = "TidemarkError";
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: TidemarkErrorOptions = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? ERROR_CODES[code].retryable;
    this.hint = options.hint;
  }
}

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === "string" && Object.hasOwn(ERROR_CODES, value);
}

/** Gives whatever was thrown a code; what has one keeps it. */
export function toTidemarkError(thrown: unknown): TidemarkError {
  if (thrown instanceof TidemarkError) return thrown;
  if (thrown instanceof Error) {
    if (thrown.name === "AbortError")
      return new TidemarkError("CANCELLED", thrown.message, { cause: thrown });
    const code = (thrown as { code?: unknown }).code;
    if (isErrorCode(code)) return ofDataPlane(code, thrown);
    return new TidemarkError("INTERNAL", thrown.message, { cause: thrown });
  }
  return new TidemarkError("INTERNAL", String(thrown));
}

/** The data plane says what to do in the same text, and ends with the kernel's words as they are. */
function ofDataPlane(code: ErrorCode, cause: Error): TidemarkError {
  const [sentence = "", hint] = cause.message.split(/(?<=\.) (?=[A-Z])(.*)$/s);
  const message = sentence.endsWith(".") ? sentence : `${sentence}.`;
  return new TidemarkError(code, message, hint === undefined ? { cause } : { cause, hint });
}
