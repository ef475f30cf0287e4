import { isDeepStrictEqual } from "node:util";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { readRecord, type RelationshipRecord } from "../model/relationship.js";
import type { RelationshipSettings } from "../model/relationship-settings.js";
import { RelationshipJournal } from "./relationship-journal.js";
import { DEFAULT_REPLICATION_LIMITS } from "./replication-limits.js";
import type { ReplicationPorts } from "./replication-ports.js";
import { backOff } from "./retry.js";

const LOOKS_BEFORE_ANSWER = 3;

interface UnderWay {
  readonly record: RelationshipRecord;
  /** The note has failed, and nobody knows whether it was taken. */
  isInDoubt: boolean;
  isGivenUp: boolean;
}

/**
 * Notes the records of new relationships. A put that fails may have been taken: nothing is
 * undone then, the store is asked until it tells, and what is there begins.
 */
export class NewRecords {
  readonly #ports: ReplicationPorts;
  readonly #begin: (journal: RelationshipJournal) => void;
  readonly #underWay = new Set<UnderWay>();
  readonly #closing = new AbortController();

  constructor(ports: ReplicationPorts, begin: (journal: RelationshipJournal) => void) {
    this.#ports = ports;
    this.#begin = begin;
  }

  /** Begun when it resolves. When the store does not tell in time, it may begin later. */
  async create(record: RelationshipRecord): Promise<void> {
    this.requireNoneUnderWay(record.settings);
    const underWay = { record, isInDoubt: false, isGivenUp: false };
    this.#underWay.add(underWay);
    this.#begin(await this.#note(underWay));
  }

  /** Throws while the same is being noted, or nobody knows whether the VM's last one was. */
  requireNoneUnderWay({ vmId, targetName, replicaUrl }: RelationshipSettings): void {
    for (const { record, isInDoubt } of this.#underWay) {
      const { settings } = record;
      if (settings.vmId !== vmId) continue;
      if (isInDoubt) throw notAnswered(vmId);
      if (settings.targetName === targetName || settings.replicaUrl === replicaUrl) {
        throw isUnderWay(vmId);
      }
    }
  }

  /** The VM is not here any more: what was noted of it without an answer is deleted. */
  giveUp(vmId: string): void {
    for (const each of this.#underWay) {
      if (each.record.settings.vmId === vmId) each.isGivenUp = true;
    }
  }

  close(): void {
    this.#closing.abort(new TidemarkError("CLOSED", "The engine is closed."));
  }

  async #note(underWay: UnderWay): Promise<RelationshipJournal> {
    try {
      const journal = await RelationshipJournal.create(this.#ports.store, underWay.record);
      this.#underWay.delete(underWay);
      return journal;
    } catch (thrown) {
      underWay.isInDoubt = true;
      const noted = await this.#settle(underWay);
      if (noted === null) throw thrown;
      return noted;
    }
  }

  /** Null: it was not noted. Goes on asking after it has thrown. */
  async #settle(underWay: UnderWay): Promise<RelationshipJournal | null> {
    try {
      return await this.#find(underWay, LOOKS_BEFORE_ANSWER);
    } catch (cause) {
      void this.#beginLater(underWay);
      throw notAnswered(underWay.record.settings.vmId, cause);
    }
  }

  async #beginLater(underWay: UnderWay): Promise<void> {
    try {
      const noted = await this.#find(underWay, Number.POSITIVE_INFINITY);
      if (noted !== null) this.#begin(noted);
    } catch {
      // The engine is closed: its next start finds what is there.
    }
  }

  async #find(underWay: UnderWay, looks: number): Promise<RelationshipJournal | null> {
    const { clock, random = Math.random } = this.#ports;
    const limits = { ...DEFAULT_REPLICATION_LIMITS, ...this.#ports.limits };
    for (let look = 1; ; look += 1) {
      try {
        return await this.#look(underWay);
      } catch (thrown) {
        if (look >= looks) throw thrown;
      }
      await backOff({ clock, random, limits }, look, this.#closing.signal);
    }
  }

  async #look(underWay: UnderWay): Promise<RelationshipJournal | null> {
    const { record } = underWay;
    const found = await RelationshipJournal.find(this.#ports.store, record);
    const noted = found !== null && isSame(found.record, record) ? found : null;
    if (underWay.isGivenUp) await noted?.delete();
    this.#underWay.delete(underWay);
    return underWay.isGivenUp ? null : noted;
  }
}

/** What is not defined is not stored. */
function isSame(noted: RelationshipRecord, record: RelationshipRecord): boolean {
  return isDeepStrictEqual(noted, readRecord(JSON.parse(JSON.stringify(record))));
}

function isUnderWay(vmId: string): TidemarkError {
  return new TidemarkError(
    "IN_USE",
    `Cannot enable replication of ${vmId}: because that is being done for another order.`,
    { hint: "Look at `tidemark vm status` in a moment." },
  );
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
