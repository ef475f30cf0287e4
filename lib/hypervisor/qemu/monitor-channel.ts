import type { TidemarkError } from "../../model/errors.js";
import type { QmpEvent } from "./qmp-message.js";

/** A way to a QEMU's machine monitor, of its own or by what manages that QEMU. */
export interface MonitorChannel extends AsyncDisposable {
  /** Resolves, with the reason, when no more commands can be given. */
  readonly ended: Promise<TidemarkError>;

  /** What the command returns; rejects with QEMU's own words. An abort leaves it to QEMU. */
  execute(command: string, args: object, signal: AbortSignal): Promise<unknown>;

  /** Returns what ends it. */
  onEvent(listener: (event: QmpEvent) => void): () => void;

  close(): Promise<void>;
}
