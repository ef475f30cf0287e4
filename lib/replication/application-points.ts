/** When a VM's next point is to be application-consistent, and how that went. */
import type { FreezeWay } from "../model/application-freezer.js";
import type { Clock } from "../model/clock.js";
import type { Cut } from "../model/delta.js";
import { type TidemarkError, toTidemarkError } from "../model/errors.js";
import type { ApplicationConsistencyStatus, RelationshipNews } from "../model/relationship.js";
import { Freeze } from "./freeze.js";
import { relationshipError } from "./relationship-error.js";
import type { RelationshipJournal } from "./relationship-journal.js";
import type { ReplicationLimits } from "./replication-limits.js";
import type { Thaws } from "./thaws.js";

export interface ApplicationPointsParts {
  readonly journal: RelationshipJournal;
  readonly clock: Clock;
  readonly thaws: Thaws;
  readonly limits: Pick<ReplicationLimits, "freezeRetryMs">;
  readonly vmName: () => string;
  readonly emit: (news: RelationshipNews) => void;
}

/** In these the VM is shut down. */
const STATES_AT_REST: readonly string[] = ["handing-over", "failed-over"];

export class ApplicationPoints {
  readonly #parts: ApplicationPointsParts;
  /** Since the last point: freezes that were begun, and when the last one was. */
  #tryCount = 0;
  #triedAtMs = 0;
  #lastError: TidemarkError | null = null;

  constructor(parts: ApplicationPointsParts) {
    this.#parts = parts;
  }

  get isDue(): boolean {
    const everyMs = this.#everyMs;
    if (everyMs === null) return false;
    if (this.#tryCount > 0) return this.#waitMs(everyMs) === 0;
    const lastAtMs = this.#lastPointAtMs;
    if (lastAtMs === null) return true;
    const ageMs = this.#parts.clock.nowMs() - lastAtMs;
    // What the last freeze took does not put off the next one by a cycle.
    const { frozenLimitMs } = this.#parts.journal.record.settings;
    const toleranceMs = Math.min(frozenLimitMs, everyMs / 10);
    // Of the future: the wall clock was set back.
    return ageMs < 0 || ageMs >= everyMs - toleranceMs;
  }

  /** Null: its points are not to be application-consistent, or that failed. Never rejects. */
  async freeze(signal: AbortSignal): Promise<Freeze | null> {
    const way = this.#way();
    if (way === null) return null;
    const { clock, thaws, journal } = this.#parts;
    const triesBefore = this.#tryCount;
    this.#tryCount += 1;
    this.#triedAtMs = clock.monotonicMs();
    const { frozenLimitMs: limitMs } = journal.record.settings;
    try {
      return await Freeze.begin({ clock, thaws, way, limitMs }, signal);
    } catch (thrown) {
      if (signal.aborted) this.#tryCount = triesBefore;
      else this.#fail(toTidemarkError(thrown));
      return null;
    }
  }

  /** Before the freeze is ended: whether what was cut was cut at rest. */
  judge(freeze: Freeze | null): boolean {
    if (freeze === null) return false;
    if (freeze.holds) this.#lastError = null;
    else this.#fail(freeze.lateness);
    return freeze.holds;
  }

  /** A cut is a recovery point. A note that fails costs one freeze more. */
  async noteCommitted({ consistency, takenAtMs }: Cut): Promise<void> {
    if (consistency !== "application") return;
    this.#tryCount = 0;
    this.#lastError = null;
    const patch = { applicationConsistentAtMs: takenAtMs };
    await this.#parts.journal.update(patch).catch(() => undefined);
  }

  status(): ApplicationConsistencyStatus | null {
    const { settings } = this.#parts.journal.record;
    const thaw = this.#parts.thaws.failureOf(settings.vmId);
    if (settings.applicationConsistentEveryMs === null && thaw === null) return null;
    const error = this.#lastError;
    return {
      lastPointAtMs: this.#lastPointAtMs,
      lastError: error === null ? null : relationshipError(error, this.#nextTryAtMs()),
      thaw:
        thaw === null
          ? null
          : { sinceMs: thaw.sinceMs, error: relationshipError(thaw.error, null) },
    };
  }

  get #everyMs(): number | null {
    const { state, settings } = this.#parts.journal.record;
    return STATES_AT_REST.includes(state) ? null : settings.applicationConsistentEveryMs;
  }

  get #lastPointAtMs(): number | null {
    return this.#parts.journal.record.applicationConsistentAtMs ?? null;
  }

  #way(): FreezeWay | null {
    const { vmId, freezeScript, thawScript } = this.#parts.journal.record.settings;
    if (this.#everyMs === null || freezeScript === null || thawScript === null) return null;
    return { vmId, vmName: this.#parts.vmName(), freezeScript, thawScript };
  }

  /** Guests are not frozen again and again for a point that does not come. */
  #waitMs(everyMs: number): number {
    const { clock, limits } = this.#parts;
    const pauseMs = Math.min(everyMs, limits.freezeRetryMs * 2 ** Math.min(this.#tryCount - 1, 20));
    return Math.max(0, this.#triedAtMs + pauseMs - clock.monotonicMs());
  }

  #nextTryAtMs(): number | null {
    const everyMs = this.#everyMs;
    return everyMs === null ? null : this.#parts.clock.nowMs() + this.#waitMs(everyMs);
  }

  #fail(error: TidemarkError): void {
    this.#lastError = error;
    this.#triedAtMs = this.#parts.clock.monotonicMs();
    const failure = relationshipError(error, this.#nextTryAtMs());
    this.#parts.emit({ type: "freeze-failed", error: failure });
  }
}
