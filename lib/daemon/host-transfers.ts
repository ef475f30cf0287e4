import type { Clock } from "../model/clock.js";
import { systemLocalTime } from "../model/local-time.js";
import type { RelationshipSettings } from "../model/relationship-settings.js";
import type { StateStore } from "../model/state-store.js";
import { rateAt, type Throttle } from "../model/throttle.js";
import { DEFAULT_TRANSFER_SETTINGS, type TransferSettings } from "../model/transfer-settings.js";
import { PacedSender } from "../transport/paced-sender.js";
import type { SegmentSender } from "../transport/segment-sender.js";
import { TransferTurns } from "../transport/transfer-turns.js";

const KEY = "host/transfers";

/** What the relationships of this host share, as it was set: durable, and changed while they run. */
export class HostTransfers {
  readonly #store: StateStore;
  readonly #clock: Clock;
  readonly #host: TransferTurns;
  /** By replica: one that does not answer holds up nobody else's segments. */
  readonly #places = new Map<string, TransferTurns>();
  #settings: TransferSettings;
  #version: number;

  private constructor(
    store: StateStore,
    clock: Clock,
    settings: TransferSettings,
    version: number,
  ) {
    this.#store = store;
    this.#clock = clock;
    this.#settings = settings;
    this.#version = version;
    this.#host = new TransferTurns(clock, {
      bytesPerSecond: () => this.#rateOf(this.#settings.throttle),
      parallelCount: () => Number.POSITIVE_INFINITY,
    });
  }

  static async open(store: StateStore, clock: Clock): Promise<HostTransfers> {
    const document = await store.get(KEY);
    const noted = (document?.value ?? {}) as Partial<TransferSettings>;
    const settings = { ...DEFAULT_TRANSFER_SETTINGS, ...noted };
    return new HostTransfers(store, clock, settings, document?.version ?? 0);
  }

  get settings(): TransferSettings {
    return this.#settings;
  }

  /** Durable when it resolves, and in force. */
  async change(change: Partial<TransferSettings>): Promise<void> {
    const settings = { ...this.#settings, ...change };
    this.#version = await this.#store.put(KEY, settings, this.#version);
    this.#settings = settings;
    this.#host.check();
    for (const places of this.#places.values()) places.check();
  }

  /** `inner` within the host's limits and those of the relationship. */
  paced(inner: SegmentSender, settings: () => RelationshipSettings): SegmentSender {
    return new PacedSender({
      inner,
      clock: this.#clock,
      host: this.#host,
      places: this.#placesAt(settings().replicaUrl),
      hostBytesPerSecond: () => this.#rateOf(this.#settings.throttle),
      bytesPerSecond: () => this.#rateOf(settings().throttle),
      settings,
    });
  }

  #placesAt(replicaUrl: string): TransferTurns {
    const known = this.#places.get(replicaUrl);
    if (known !== undefined) return known;
    const places = new TransferTurns(this.#clock, {
      bytesPerSecond: () => null,
      parallelCount: () => this.#settings.parallelSegments,
    });
    this.#places.set(replicaUrl, places);
    return places;
  }

  #rateOf(throttle: Throttle | null): number | null {
    return throttle === null ? null : rateAt(throttle, systemLocalTime(this.#clock.nowMs()));
  }
}
