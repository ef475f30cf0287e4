import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { RelationshipRecord } from "../model/relationship.js";
import type { StateDocument, StateStore } from "../model/state-store.js";

export const RELATIONSHIP_PREFIX = "relationships/";

/**
 * The durable record of one relationship. What `record` shows is in the store:
 * it changes after the store has acknowledged. After a put without an answer it
 * is stale, and nothing but refresh() is allowed until the store was read again.
 */
export class RelationshipJournal {
  readonly #store: StateStore;
  readonly #key: string;
  #record: RelationshipRecord;
  #version: number;
  #stale = false;

  private constructor(store: StateStore, key: string, record: RelationshipRecord, version: number) {
    this.#store = store;
    this.#key = key;
    this.#record = record;
    this.#version = version;
  }

  static async create(store: StateStore, record: RelationshipRecord): Promise<RelationshipJournal> {
    const key = `${RELATIONSHIP_PREFIX}${record.settings.vmId}/${record.settings.targetId}`;
    return new RelationshipJournal(store, key, record, await store.put(key, record, 0));
  }

  static fromDocument(store: StateStore, document: StateDocument): RelationshipJournal {
    const record = document.value as RelationshipRecord;
    return new RelationshipJournal(store, document.key, record, document.version);
  }

  get record(): RelationshipRecord {
    return this.#record;
  }

  async update(patch: Partial<RelationshipRecord>): Promise<void> {
    if (this.#stale) {
      throw new TidemarkError(
        "IO_ERROR",
        "Cannot note the relationship's state: because an earlier note has no answer yet.",
      );
    }
    const record = { ...this.#record, ...patch };
    this.#stale = true;
    this.#version = await this.#store.put(this.#key, record, this.#version);
    this.#record = record;
    this.#stale = false;
  }

  /** update() over a put of a former process that arrived late: read again, once. */
  async insist(patch: Partial<RelationshipRecord>): Promise<void> {
    await this.refresh();
    try {
      await this.update(patch);
    } catch (thrown) {
      if (toTidemarkError(thrown).code !== "CONFLICT") throw thrown;
      await this.refresh();
      await this.update(patch);
    }
  }

  /** Reads the record again where a put's outcome is unknown. */
  async refresh(): Promise<void> {
    if (!this.#stale) return;
    const document = await this.#store.get(this.#key);
    if (document === null) {
      throw new TidemarkError(
        "NOT_FOUND",
        `Cannot go on with the relationship: because its record ${this.#key} is gone.`,
        { hint: "Remove the relationship and enable replication again." },
      );
    }
    this.#record = document.value as RelationshipRecord;
    this.#version = document.version;
    this.#stale = false;
  }

  async delete(): Promise<void> {
    await this.#store.delete(this.#key);
  }
}
