import { TidemarkError } from "#lib/model/errors.js";
import { MemoryFiles } from "./memory-files.js";

/** Fails the operation whose turn it is, before or after it took effect. */
export class FailingFiles extends MemoryFiles {
  operationsUntilFailure = Number.POSITIVE_INFINITY;
  failsAfterEffect = false;
  failed = "";

  override async writeSynced(path: string, content: Uint8Array): Promise<void> {
    await this.#pass("write", () => super.writeSynced(path, content));
  }

  override async rename(from: string, to: string): Promise<void> {
    await this.#pass("rename", () => super.rename(from, to));
  }

  override async syncDirectory(path: string): Promise<void> {
    await this.#pass("sync", () => super.syncDirectory(path));
  }

  async #pass(what: string, operation: () => Promise<void>): Promise<void> {
    this.operationsUntilFailure -= 1;
    const isFailing = this.operationsUntilFailure === 0;
    if (!isFailing || this.failsAfterEffect) await operation();
    if (!isFailing) return;
    this.failed = what;
    throw new TidemarkError("NO_SPACE", `Cannot ${what}: because the test says so.`);
  }
}
