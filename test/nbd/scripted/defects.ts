/** What the scripted server can do wrong, and the check that must find each. */
import type { Verdict } from "../conformance/suite.js";

export interface Defect {
  readonly check: string;
  readonly verdict: Verdict;
}

const violates = (check: string): Defect => ({ check, verdict: "violates" });
const deviates = (check: string): Defect => ({ check, verdict: "deviates" });

export const DEFECTS = {
  "unknown-client-flags-served": violates("handshake-client-flags"),
  "handshake-flag-undefined": violates("handshake-greeting"),
  "unknown-option-acknowledged": violates("option-unknown"),
  "unknown-option-data-not-taken": violates("option-unknown"),
  "unknown-option-ends": violates("option-unknown"),
  "abort-unanswered": violates("option-abort"),
  "list-with-data-accepted": deviates("list-with-data"),
  "go-differs-from-info": violates("info"),
  "info-without-export": violates("info"),
  "preferred-block-odd": violates("info-block-size"),
  "error-text-too-long": violates("info-unknown-export"),
  "gone-after-long-name": violates("errors-name-too-long"),
  "no-zeroes-ignored": violates("export-name"),
  "unknown-export-name-served": violates("export-name-unknown"),
  "unknown-namespace-refused": violates("meta-context-list"),
  "wildcard-selects": violates("meta-context-set"),
  "contexts-share-an-id": violates("meta-context-set"),
  "failed-set-keeps-contexts": violates("meta-context-replaced"),
  "query-length-believed": violates("meta-context-malformed"),
  "contexts-of-any-export": violates("meta-context-other-export"),
  "starttls-twice": violates("tls-twice"),
  "state-kept-through-starttls": violates("tls-state-dropped"),
  "injected-bytes-read": violates("tls-injected"),
  "read-past-end": violates("errors-server-invalid-offset"),
  "write-past-end-einval": deviates("errors-server-invalid-offset"),
  "error-ends-connection": violates("errors-server-invalid-offset"),
  "unknown-command-succeeds": deviates("errors-server-unadvertised-cmd"),
  "flags-ignored": deviates("errors-server-unknown-flags"),
  "unaligned-written": deviates("errors-server-unaligned"),
  "cookie-cut": violates("errors-bad-cookie"),
  "read-only-written": violates("errors-read-only"),
  "failed-read-simple": violates("errors-pread-structured"),
  "chunks-overlap": violates("structured-read"),
  "chunks-leave-a-gap": violates("structured-read"),
  "hole-holds-data": violates("structured-read"),
  "df-fragmented": violates("structured-read-df"),
  "last-chunk-not-done": violates("structured-read"),
  "zeroes-too-short": violates("write-zeroes"),
  "zeroes-too-long": violates("write-zeroes"),
  "no-hole-refused": violates("write-zeroes-no-hole"),
  "trim-rounds-outward": violates("trim"),
  "fast-zero-einval": violates("fast-zero"),
  "fast-zero-changes": deviates("fast-zero"),
  "cache-flags-ignored": violates("cache"),
  "fua-refused": violates("fua"),
  "data-said-zero": violates("block-status-zero"),
  "req-one-ignored": violates("block-status-req-one"),
  "extent-of-0-bytes": violates("block-status"),
  "status-past-end": violates("block-status-past-end"),
  "status-without-context": deviates("block-status-without-context"),
  "writes-not-shared": violates("multi-conn"),
  "stays-after-disc": violates("disconnect"),
  "serves-after-disc": violates("errors-multiple-disconnects"),
  "extended-offset-missing": violates("extended-read-write"),
  "extended-simple-reply": violates("extended-read-write"),
  "extended-length-cut": violates("extended-lengths"),
  "payload-not-taken": violates("extended-unexpected-payload"),
  "narrow-status": violates("block-status"),
  "filter-ignored": violates("block-status-payload"),
  "filter-takes-duplicates": violates("block-status-payload"),
  "writes-lost": violates("data-integrity-simple"),
  "writes-lost-in-structured": violates("data-integrity-structured"),
  "writes-lost-in-extended": violates("data-integrity-extended"),
} as const satisfies Readonly<Record<string, Defect>>;

export type DefectName = keyof typeof DEFECTS;
