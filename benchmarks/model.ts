import type { Scope } from "./scope.js";

/** What a workload measures: a column of its table. */
export interface Metric {
  readonly key: string;
  /** The column's head, unit included. */
  readonly title: string;
  readonly better: "higher" | "lower";
  readonly digits: number;
}

/** What one trial found out about one subject in one case. */
export interface Measurement {
  readonly caseName: string;
  readonly subject: string;
  readonly values: Readonly<Record<string, number>>;
}

/** One run of one subject; what it measures runs in processes that it starts afresh. */
export interface Trial {
  readonly name: string;
  /** The case that it measures, when it is one that is known before. */
  readonly caseName?: string;
  run(scope: Scope): Promise<readonly Measurement[]>;
}

export interface Plan {
  /** The trials of a group alternate, round after round, so that a disturbance hits all alike. */
  readonly groups: readonly (readonly Trial[])[];
  readonly rounds: number;
  /** What is left out, and why: a line each. */
  readonly skipped: readonly string[];
}

/** A number made of several rows, such as a ratio. */
export interface Derived {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
}

/** The subject's own metric beside the best of the peers in the same case. */
export interface PeerRatio {
  readonly metric: string;
  readonly peers: readonly string[];
}

export interface Workload {
  readonly name: string;
  readonly summary: string;
  readonly metrics: readonly Metric[];
  readonly peerRatio?: PeerRatio;
  plan(context: BenchContext): Promise<Plan>;
  derive?(rows: readonly Row[]): readonly Derived[];
}

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly samples: readonly number[];
}

export interface Row {
  readonly workload: string;
  readonly caseName: string;
  readonly subject: string;
  readonly metrics: Readonly<Record<string, Summary>>;
  /** Share of the machine's CPU time that went to strangers meanwhile, in percent. */
  readonly othersCpuPercent: number;
}

export interface BenchContext {
  readonly scope: Scope;
  readonly sizing: Sizing;
  readonly sweep: Sweep;
  /** On the file system that is measured. */
  readonly directory: string;
  /** Short, so that socket paths fit. */
  readonly socketDirectory: string;
  /** A filled file (or the device) that all subjects share; made when first asked for. */
  scratch(): Promise<Scratch>;
  /** Only cases of these names; null: all. */
  readonly onlyCases: ReadonlySet<string> | null;
}

export interface Scratch {
  readonly path: string;
  readonly sizeBytes: number;
}

export interface Sizing {
  readonly isQuick: boolean;
  readonly rounds: number;
  readonly seconds: number;
  readonly scratchBytes: number;
  readonly cycleBytes: number;
}

export type Mix = "randread" | "randwrite" | "randrw" | "read" | "write";

export interface Sweep {
  readonly blockSizes: readonly number[];
  readonly granularities: readonly number[];
  readonly queueDepths: readonly number[];
  readonly connections: readonly number[];
  readonly mixes: readonly Mix[];
}
