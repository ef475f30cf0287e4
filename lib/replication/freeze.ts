import type { FreezeWay } from "../model/application-freezer.js";
import type { Clock } from "../model/clock.js";
import { TidemarkError } from "../model/errors.js";
import { orAborted } from "../model/or-aborted.js";
import type { NotedFreeze, Thaws } from "./thaws.js";

export interface FreezeParts {
  readonly clock: Clock;
  readonly thaws: Thaws;
  readonly way: FreezeWay;
  /** From the begin of the freeze to that of the thaw, whatever happens in between. */
  readonly limitMs: number;
}

/** A VM's applications at rest, or on their way there. */
export class Freeze {
  readonly #parts: FreezeParts;
  readonly #noted: NotedFreeze;
  readonly #freezing = new AbortController();
  readonly #box = new AbortController();
  #thawing: Promise<void> | null = null;

  private constructor(parts: FreezeParts, noted: NotedFreeze) {
    this.#parts = parts;
    this.#noted = noted;
    const { clock, limitMs } = parts;
    clock.sleep(limitMs, this.#box.signal).then(
      () => this.#expire(),
      () => {},
    );
  }

  /** Resolves when they are at rest; else they are thawed when it rejects, or that is tried on. */
  static async begin(parts: FreezeParts, signal: AbortSignal): Promise<Freeze> {
    signal.throwIfAborted();
    const freeze = new Freeze(parts, await parts.thaws.note(parts.way));
    const onAbort = () => freeze.#freezing.abort(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      await freeze.#reachRest();
      return freeze;
    } catch (thrown) {
      await freeze.end();
      throw thrown;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** The thaw has not begun: what was cut by now was cut at rest. */
  get holds(): boolean {
    return this.#thawing === null;
  }

  /** Why it ended before it was ended. */
  get lateness(): TidemarkError {
    return tooSlow(this.#parts);
  }

  /** Thaws at once; resolves after the first try, worked or not. Idempotent. */
  end(): Promise<void> {
    this.#thawing ??= this.#parts.thaws.thaw(this.#noted);
    this.#box.abort();
    return this.#thawing;
  }

  async #reachRest(): Promise<void> {
    const { note, freezer } = this.#noted;
    const { signal } = this.#freezing;
    await orAborted(freezer.freeze(note.freezeId, signal), signal);
  }

  #expire(): void {
    this.#freezing.abort(tooSlow(this.#parts));
    void this.end();
  }
}

function tooSlow({ way, limitMs }: FreezeParts): TidemarkError {
  return new TidemarkError(
    "TIMED_OUT",
    `Cannot cut ${way.vmName} with its applications at rest: because that took more than ${limitMs / 1000} s.`,
    { hint: `Make ${way.freezeScript} faster, or give a longer --freeze-limit.` },
  );
}
