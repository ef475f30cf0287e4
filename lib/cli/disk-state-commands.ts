/** A disk's tracking state on its way to another holder; part of LocalCommands. */
export interface DiskStateCommands {
  exportState(options: ExportStateCommand): Promise<DiskStateLine>;
  importState(options: ImportStateCommand): Promise<{ readonly foundCauses: readonly string[] }>;
  takeBackState(options: TakeBackCommand): Promise<void>;
  describeState(statePath: string): Promise<DiskStateLine & { readonly stage: string }>;
}

export interface ExportStateCommand {
  readonly diskPath: string;
  readonly bitmapPath: string | null;
  readonly statePath: string;
}

export interface ImportStateCommand extends ExportStateCommand {
  readonly diskId: string | null;
}

export interface TakeBackCommand {
  readonly diskPath: string;
  readonly bitmapPath: string | null;
  /** null: by force, and everything is suspect. */
  readonly statePath: string | null;
}

export interface DiskStateLine {
  readonly id: string;
  readonly epoch: number;
  readonly diskId: string;
  readonly sizeBytes: number;
  readonly granularityBytes: number;
  readonly targetIds: readonly string[];
}
