/** What a verification of a VM's replica finds. */
import type { ExtentList } from "./block-hashes.js";

export interface Damage {
  /**
   * "document": a manifest or another of the store's small files. "layer": its header or
   * its index, so that nothing of it can be used. "data": blocks of a layer. "base": blocks
   * of the base.
   */
  readonly kind: "document" | "layer" | "data" | "base";
  /** Below the VM's directory. */
  readonly file: string;
  /** Null for a document. */
  readonly diskId: string | null;
  readonly diskName: string | null;
  /** The recovery point that the file came with; for the base, the one that it holds. */
  readonly pointSequence: number;
  /** On the disk; empty for a document. */
  readonly extents: ExtentList;
  readonly reason: string;
}

export interface VerificationReport {
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  /** The recovery point that was verified; null: all of them. */
  readonly pointSequence: number | null;
  readonly verifiedBytes: number;
  /** Written before this version kept checksums of the base: neither good nor damaged. */
  readonly unknownBytes: number;
  readonly result: "good" | "damaged";
  /** Small files that were damaged and are as they were written again. */
  readonly mendedFiles: readonly string[];
  readonly damage: readonly Damage[];
}

export interface VerificationProgress {
  readonly startedAtMs: number;
  readonly pointSequence: number | null;
  readonly verifiedBytes: number;
  readonly totalBytes: number;
  readonly isPaused: boolean;
}

export interface VerificationStatus {
  /** Under way or waiting for another VM's to end. */
  readonly running: VerificationProgress | null;
  /** The last one that came to its end; durable. */
  readonly last: VerificationReport | null;
  /** Why the last one since the start of the service did not come to its end. */
  readonly lastFailure: string | null;
  /** What is known to be damaged and still there. */
  readonly damage: readonly Damage[];
  /** The recovery points that contain some of it. */
  readonly damagedPoints: readonly number[];
  readonly isHeadDamaged: boolean;
}
