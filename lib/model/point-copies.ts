/** Recovery points copied to files. */
export const COPY_FORMATS = ["raw", "qcow2"] as const;

export type CopyFormat = (typeof COPY_FORMATS)[number];

export interface CopiedDisk {
  /** Within the copy's directory. */
  readonly file: string;
  readonly diskId: string;
  readonly name: string;
  readonly sizeBytes: number;
}

export interface PointCopy {
  readonly copyId: string;
  readonly vmId: string;
  readonly pointId: string;
  readonly pointSequence: number;
  readonly format: CopyFormat;
  /** There when the state is "done", and only then. */
  readonly directory: string;
  readonly state: "running" | "done" | "failed";
  /** Of the disks' sizes: what has been dealt with. */
  readonly copiedBytes: number;
  readonly totalBytes: number;
  readonly disks: readonly CopiedDisk[];
  readonly failure: { readonly code: string; readonly message: string } | null;
}
