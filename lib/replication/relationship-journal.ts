import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { readRecord, type RelationshipRecord } from "../model/relationship.js";
import type { StateDocument, StateStore } from "../model/state-store.js";

export const RELATIONSHIP_PREFIX = "relationships/";

/** The VMs that have a record. */
export async function replicatedVmIds(store: StateStore): Promise<string[]> {
  const documents = await store.list(RELATIONSHIP_PREFIX);
  return documents.map(({ key }) => key.slice(RELATIONSHIP_PREFIX.length).split("/")[0] ?? "");
}

type Patch = Partial<RelationshipRecord>;

/**
 * The durable record of one relationship. What `record` shows is in the store:
 * it changes after the store has acknowledged. After a put without an answer it
 * is stale, and nothing but refresh() is allowed until the store was read again.
 *
 * Its loop and whoever changes its settings write at the same time: one after the
 * other, each on top of what the one before has left.
 */
export class RelationshipJournal {
  readonly #store: StateStore;
  readonly #key: string;
  #record: RelationshipRecord;
  #version: number;
  #stale = false;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(store: StateStore, key: string, record: RelationshipRecord, version: number) {
    this.#store = store;
    this.#key = key;
    this.#record = record;
    this.#version = version;
  }

  static async create(store: StateStore, record: RelationshipRecord): Promise<RelationshipJournal> {
    const key = keyOf(record);
    return new RelationshipJournal(store, key, record, await store.put(key, record, 0));
  }

  /** Of the relationship that this is the record of; null: there is none. */
  static async find(
    store: StateStore,
    record: RelationshipRecord,
  ): Promise<RelationshipJournal | null> {
    const document = await store.get(keyOf(record));
    return document === null ? null : RelationshipJournal.fromDocument(store, document);
  }

  static fromDocument(store: StateStore, document: StateDocument): RelationshipJournal {
    const record = readRecord(document.value);
    return new RelationshipJournal(store, document.key, record, document.version);
  }

  get record(): RelationshipRecord {
    return this.#record;
  }

  update(patch: Patch | ((record: RelationshipRecord) => Patch)): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#stale) throw unanswered();
      const changed = typeof patch === "function" ? patch(this.#record) : patch;
      const record = { ...this.#record, ...changed };
      this.#stale = true;
      this.#version = await this.#store.put(this.#key, record, this.#version);
      this.#record = record;
      this.#stale = false;
    });
  }

  /** update() over a put of a former process that arrived late: read again, once. */
  async insist(patch: Patch | ((record: RelationshipRecord) => Patch)): Promise<void> {
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
  refresh(): Promise<void> {
    return this.#inTurn(async () => {
      if (!this.#stale) return;
      const document = await this.#store.get(this.#key);
      if (document === null) throw gone(this.#key);
      this.#record = readRecord(document.value);
      this.#version = document.version;
      this.#stale = false;
    });
  }

  /** insist() of one that is being removed: a deletion without an answer may have been done. */
  async insistUnlessGone(patch: Patch): Promise<void> {
    await this.insist(patch).catch((thrown: unknown) => {
      if (toTidemarkError(thrown).code !== "NOT_FOUND") throw thrown;
    });
  }

  async delete(): Promise<void> {
    try {
      await this.#store.delete(this.#key);
    } catch (thrown) {
      if ((await this.#store.get(this.#key)) !== null) throw thrown;
    }
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }
}

function keyOf({ settings: { vmId, targetId } }: RelationshipRecord): string {
  return `${RELATIONSHIP_PREFIX}${vmId}/${targetId}`;
}

function unanswered(): TidemarkError {
  return new TidemarkError(
    "IO_ERROR",
    "Cannot note the relationship's state: because an earlier note has no answer yet.",
  );
}

function gone(key: string): TidemarkError {
  return new TidemarkError(
    "NOT_FOUND",
    `Cannot go on with the relationship: because its record ${key} is gone.`,
    { hint: "Remove the relationship and enable replication again." },
  );
}
