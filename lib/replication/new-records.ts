import { isDeepStrictEqual } from "node:util";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { readRecord, type RelationshipRecord } from "../model/relationship.js";
import { RelationshipJournal } from "./relationship-journal.js";
import { DEFAULT_REPLICATION_LIMITS } from "./replication-limits.js";
import type { ReplicationPorts } from "./replication-ports.js";
import { backOff } from "./retry.js";

const LOOKS_BEFORE_ANSWER = 3;

interface Unanswered {
  readonly record: RelationshipRecord;
  isGivenUp: boolean;
}

/**
 * Notes the records of new relationships. A put that fails may have been taken: nothing is
 * undone then, the store is asked until it tells, and what is there begins.
 */
export class NewRecords {
  readonly #ports: ReplicationPorts;
  readonly #begin: (journal: RelationshipJournal) => void;
  readonly #unanswered = new Set<Unanswered>();
  readonly #closing = new AbortController();

  constructor(ports: ReplicationPorts, begin: (journal: RelationshipJournal) => void) {
    this.#ports = ports;
    this.#begin = begin;
  }

  /** Begun when it resolves. When the store does not tell in time, it may begin later. */
  async create(record: RelationshipRecord): Promise<void> {
    this.#begin(await this.#note(record));
  }

  /** Throws while nobody knows whether the VM's last new relationship was noted. */
  requireAnswered(vmId: string): void {
    if ([...this.#unanswered].some(({ record }) => record.settings.vmId === vmId)) {
      throw notAnswered(vmId);
    }
  }

  /** The VM is not here any more: what was noted of it without an answer is deleted. */
  giveUp(vmId: string): void {
    for (const each of this.#unanswered) {
      if (each.record.settings.vmId === vmId) each.isGivenUp = true;
    }
  }

  close(): void {
    this.#closing.abort(new TidemarkError("CLOSED", "The engine is closed."));
  }

  async #note(record: RelationshipRecord): Promise<RelationshipJournal> {
    try {
      return await RelationshipJournal.create(this.#ports.store, record);
    } catch (thrown) {
      const noted = await this.#settle({ record, isGivenUp: false });
      if (noted === null) throw thrown;
      return noted;
    }
  }

  /** Null: it was not noted. Goes on asking after it has thrown. */
  async #settle(unanswered: Unanswered): Promise<RelationshipJournal | null> {
    this.#unanswered.add(unanswered);
    try {
      return await this.#find(unanswered, LOOKS_BEFORE_ANSWER);
    } catch (cause) {
      void this.#beginLater(unanswered);
      throw notAnswered(unanswered.record.settings.vmId, cause);
    }
  }

  async #beginLater(unanswered: Unanswered): Promise<void> {
    try {
      const noted = await this.#find(unanswered, Number.POSITIVE_INFINITY);
      if (noted !== null) this.#begin(noted);
    } catch {
      // The engine is closed: its next start finds what is there.
    }
  }

  async #find(unanswered: Unanswered, looks: number): Promise<RelationshipJournal | null> {
    const { clock, random = Math.random } = this.#ports;
    const limits = { ...DEFAULT_REPLICATION_LIMITS, ...this.#ports.limits };
    for (let look = 1; ; look += 1) {
      try {
        return await this.#look(unanswered);
      } catch (thrown) {
        if (look >= looks) throw thrown;
      }
      await backOff({ clock, random, limits }, look, this.#closing.signal);
    }
  }

  async #look(unanswered: Unanswered): Promise<RelationshipJournal | null> {
    const { record } = unanswered;
    const found = await RelationshipJournal.find(this.#ports.store, record);
    const noted = found !== null && isSame(found.record, record) ? found : null;
    if (unanswered.isGivenUp) await noted?.delete();
    this.#unanswered.delete(unanswered);
    return unanswered.isGivenUp ? null : noted;
  }
}

/** What is not defined is not stored. */
function isSame(noted: RelationshipRecord, record: RelationshipRecord): boolean {
  return isDeepStrictEqual(noted, readRecord(JSON.parse(JSON.stringify(record))));
}

function notAnswered(vmId: string, cause?: unknown): TidemarkError {
  const code = cause === undefined ? "IN_USE" : toTidemarkError(cause).code;
  return new TidemarkError(
    code,
    `Cannot tell whether the replication of ${vmId} was begun: because the state store, which was to note it, does not answer.`,
    {
      cause,
      hint: "Look at `tidemark vm status` when the store answers again: what was noted goes on by itself then. Repeat the order if it is not there.",
    },
  );
}
