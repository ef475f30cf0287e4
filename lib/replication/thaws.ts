/**
 * What must not be forgotten about freezes. Each is noted durably before it begins, and the
 * note goes when the applications were thawed: that is tried until it works, by whatever
 * process is there.
 */
import { randomUUID } from "node:crypto";
import type { ApplicationFreezer, FreezeWay } from "../model/application-freezer.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { orAborted } from "../model/or-aborted.js";
import type { ReplicationLimits } from "./replication-limits.js";
import type { ReplicationPorts } from "./replication-ports.js";
import { backOff } from "./retry.js";

const FREEZE_PREFIX = "freezes/";

interface FreezeNote extends FreezeWay {
  readonly freezeId: string;
  readonly sinceMs: number;
}

/** A freeze that is noted. */
export interface NotedFreeze {
  readonly note: FreezeNote;
  readonly freezer: ApplicationFreezer;
}

export interface FailedThaw {
  readonly sinceMs: number;
  readonly error: TidemarkError;
}

export type ThawsPorts = Pick<ReplicationPorts, "store" | "clock" | "random" | "openFreezer">;

type Limits = Pick<ReplicationLimits, "thawLimitMs" | "retryBaseMs" | "retryMaxMs">;

export class Thaws {
  readonly #ports: ThawsPorts;
  readonly #limits: Limits;
  readonly #closing = new AbortController();
  /** By VM: those that are noted; with the error of the last try to thaw, if there was one. */
  readonly #noted = new Map<string, { readonly sinceMs: number; error: TidemarkError | null }>();
  readonly #thawing = new Set<Promise<void>>();

  constructor(ports: ThawsPorts, limits: Limits) {
    this.#ports = ports;
    this.#limits = limits;
  }

  /** Thaws what an earlier process may have left frozen. */
  async start(): Promise<void> {
    if (this.#ports.openFreezer === undefined) return;
    for (const { value } of await this.#ports.store.list(FREEZE_PREFIX)) {
      const note = value as FreezeNote;
      this.#noted.set(note.vmId, { sinceMs: note.sinceMs, error: null });
      void this.thaw({ note, freezer: this.#open(note) });
    }
  }

  /** Null: none failed, or it has worked since. */
  failureOf(vmId: string): FailedThaw | null {
    const { sinceMs, error = null } = this.#noted.get(vmId) ?? { sinceMs: 0 };
    return error === null ? null : { sinceMs, error };
  }

  /** Before a freeze begins; thaw() has to follow. IN_USE while an earlier one is not thawed. */
  async note(way: FreezeWay): Promise<NotedFreeze> {
    if (this.#noted.has(way.vmId)) {
      throw new TidemarkError(
        "IN_USE",
        `Cannot freeze the applications of ${way.vmName}: because they are not thawed yet since the last time.`,
        { hint: `See why ${way.thawScript} fails.` },
      );
    }
    const freezer = this.#open(way);
    const note = { ...way, freezeId: randomUUID(), sinceMs: this.#ports.clock.nowMs() };
    await this.#ports.store.put(FREEZE_PREFIX + way.vmId, note);
    this.#noted.set(way.vmId, { sinceMs: note.sinceMs, error: null });
    return { note, freezer };
  }

  /** Resolves after the first try, worked or not; the others follow by themselves. */
  thaw(freeze: NotedFreeze): Promise<void> {
    return new Promise((resolve) => {
      const thawing = this.#untilThawed(freeze, resolve);
      this.#thawing.add(thawing);
      void thawing.finally(() => this.#thawing.delete(thawing));
    });
  }

  /** What is not thawed by now stays noted. */
  async close(): Promise<void> {
    this.#closing.abort(new TidemarkError("CANCELLED", "The service is being stopped."));
    await Promise.all(this.#thawing);
  }

  /** Never rejects. */
  async #untilThawed(freeze: NotedFreeze, onTried: () => void): Promise<void> {
    const { signal } = this.#closing;
    const { clock, random = Math.random } = this.#ports;
    for (let failures = 0; !signal.aborted; ) {
      try {
        return await this.#tryThaw(freeze);
      } catch (thrown) {
        failures += 1;
        const noted = this.#noted.get(freeze.note.vmId);
        if (noted !== undefined) noted.error = toTidemarkError(thrown);
      } finally {
        onTried();
      }
      await backOff({ clock, random, limits: this.#limits }, failures, signal).catch(() => {});
    }
    onTried();
  }

  async #tryThaw({ note, freezer }: NotedFreeze): Promise<void> {
    const { clock, store } = this.#ports;
    const { thawLimitMs } = this.#limits;
    const limit = new AbortController();
    const end = () => limit.abort(this.#closing.signal.reason);
    this.#closing.signal.addEventListener("abort", end, { once: true });
    const timeout = () => limit.abort(tooSlow(note, thawLimitMs));
    clock.sleep(thawLimitMs, limit.signal).then(timeout, () => {});
    try {
      await orAborted(freezer.thaw(note.freezeId, limit.signal), limit.signal);
      await store.delete(FREEZE_PREFIX + note.vmId);
      this.#noted.delete(note.vmId);
    } finally {
      this.#closing.signal.removeEventListener("abort", end);
      limit.abort();
    }
  }

  #open(way: FreezeWay): ApplicationFreezer {
    const freezer = this.#ports.openFreezer?.(way);
    if (freezer !== undefined) return freezer;
    throw new TidemarkError(
      "UNSUPPORTED",
      `Cannot freeze the applications of ${way.vmName}: because nothing here knows how.`,
    );
  }
}

function tooSlow({ vmName, thawScript }: FreezeNote, limitMs: number): TidemarkError {
  return new TidemarkError(
    "TIMED_OUT",
    `Cannot thaw the applications of ${vmName}: because ${thawScript} did not end within ${limitMs / 1000} s.`,
    { hint: "Thaw them by hand; it is tried on." },
  );
}
