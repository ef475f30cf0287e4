/**
 * When the primaries of this host's replicas were heard of last, since the service started.
 * A failover asks for it: a primary that lives would go on beside the VM here.
 */

/** What comes closer together is one contact. */
const ONE_CONTACT_MS = 500;
const PAUSES_OF_SILENCE = 3;
const SHORTEST_SILENCE_MS = 10_000;
/** Nobody who has lost a primary waits longer than this. */
const LONGEST_SILENCE_MS = 120_000;
const UNKNOWN_PAUSE_MS = 10_000;
const VMS_KEPT = 10_000;

interface Contact {
  readonly lastMs: number;
  /** Before the last contact; null: there was no other. */
  readonly pauseMs: number | null;
}

export interface LastContact {
  readonly agoMs: number;
  /** Until then its silence says nothing. */
  readonly remainingMs: number;
}

export class PrimaryContacts {
  readonly #monotonicMs: () => number;
  /** By the VM's id, the one that was silent for the longest time first. */
  readonly #contacts = new Map<string, Contact>();

  constructor(monotonicMs: () => number = () => performance.now()) {
    this.#monotonicMs = monotonicMs;
  }

  note(vmId: string): void {
    const nowMs = this.#monotonicMs();
    const known = this.#contacts.get(vmId);
    const silentMs = known === undefined ? null : nowMs - known.lastMs;
    const isOther = silentMs !== null && silentMs >= ONE_CONTACT_MS;
    const pauseMs = isOther ? silentMs : (known?.pauseMs ?? null);
    this.#contacts.delete(vmId);
    this.#contacts.set(vmId, { lastMs: nowMs, pauseMs });
    if (this.#contacts.size <= VMS_KEPT) return;
    for (const [oldest] of this.#contacts) return void this.#contacts.delete(oldest);
  }

  /** Null: so long ago, for a primary of its rhythm, that it may well be gone. */
  lately(vmId: string): LastContact | null {
    const contact = this.#contacts.get(vmId);
    if (contact === undefined) return null;
    const usualMs = PAUSES_OF_SILENCE * (contact.pauseMs ?? UNKNOWN_PAUSE_MS);
    const limitMs = Math.min(Math.max(usualMs, SHORTEST_SILENCE_MS), LONGEST_SILENCE_MS);
    const agoMs = this.#monotonicMs() - contact.lastMs;
    return agoMs < limitMs ? { agoMs, remainingMs: limitMs - agoMs } : null;
  }
}
