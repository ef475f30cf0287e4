import type { DiskState } from "../model/disk-state.js";

/** A disk's tracking state on its way to another holder; part of LocalCommands. */
export interface DiskStateCommands {
  exportState(options: ExportStateCommand): Promise<DiskState>;
  importState(options: ImportStateCommand): Promise<{ readonly foundCauses: readonly string[] }>;
  takeBackState(options: TakeBackCommand): Promise<void>;
  describeState(statePath: string): Promise<DiskState & { readonly stage: string }>;
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
