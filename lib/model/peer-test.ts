import type { ErrorCode } from "./errors.js";

/** In order: each is tried only when none before it failed. */
export const PEER_TEST_STEPS = [
  /** The name has an address. */
  "name",
  /** Something accepts connections at address and port. */
  "route",
  /** It speaks TLS 1.3, with a certificate of our CA for that name. */
  "certificate",
  /** It takes our certificate, and answers in a protocol version that we speak. */
  "version",
  /** Its administrator has turned that on. */
  "accepting",
  /** For this host. */
  "permission",
  "space",
] as const;

export type PeerTestStepName = (typeof PEER_TEST_STEPS)[number];

export interface PeerTestStep {
  readonly step: PeerTestStepName;
  readonly outcome: "ok" | "warning" | "failed" | "not tried";
  /** Of the error when it failed. */
  readonly code: ErrorCode | null;
  /** What was found; one sentence. */
  readonly detail: string;
  /** What to do about it. */
  readonly hint: string | null;
}

export interface PeerTestReport {
  readonly url: string;
  readonly proxyUrl: string | null;
  /** No step failed. */
  readonly isReady: boolean;
  readonly steps: readonly PeerTestStep[];
  readonly hostName: string | null;
  readonly softwareVersion: string | null;
  readonly freeBytes: number | null;
}
