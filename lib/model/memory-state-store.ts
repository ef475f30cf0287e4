import { TidemarkError } from "./errors.js";
import type { StateDocument, StateStore } from "./state-store.js";

interface StoredDocument {
  readonly json: string;
  readonly version: number;
}

/**
 * A StateStore in memory: JSON text by key, so that neither side can change the
 * other's objects. Survives its readers, not the process.
 */
export class MemoryStateStore implements StateStore {
  readonly #documents = new Map<string, StoredDocument>();

  async get(key: string): Promise<StateDocument | null> {
    const stored = this.#documents.get(key);
    return stored === undefined ? null : toDocument(key, stored);
  }

  async list(prefix: string): Promise<readonly StateDocument[]> {
    return [...this.#documents]
      .filter(([key]) => key.startsWith(prefix))
      .sort(([left], [right]) => (left < right ? -1 : 1))
      .map(([key, stored]) => toDocument(key, stored));
  }

  async put(key: string, value: unknown, expectedVersion?: number): Promise<number> {
    const json = JSON.stringify(value) as string | undefined;
    if (json === undefined) {
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        `Cannot store ${key}: because its value has no JSON.`,
      );
    }
    const version = this.#checkedVersion(key, expectedVersion) + 1;
    this.#documents.set(key, { json, version });
    return version;
  }

  async delete(key: string, expectedVersion?: number): Promise<void> {
    this.#checkedVersion(key, expectedVersion);
    this.#documents.delete(key);
  }

  async close(): Promise<void> {}

  #checkedVersion(key: string, expectedVersion: number | undefined): number {
    const present = this.#documents.get(key)?.version ?? 0;
    if (expectedVersion !== undefined && expectedVersion !== present) {
      throw new TidemarkError(
        "CONFLICT",
        `Cannot change ${key}: because it has version ${present}, not ${expectedVersion}.`,
        { hint: "Read it again and decide anew." },
      );
    }
    return present;
  }
}

function toDocument(key: string, stored: StoredDocument): StateDocument {
  return { key, value: JSON.parse(stored.json) as unknown, version: stored.version };
}
