import { z } from "zod";
import { TidemarkError } from "../model/errors.js";
import { monitoring } from "../management/statistics-schemas.js";
import { testFailoverSettings } from "../management/test-failover-schemas.js";
import type { StateStore } from "../model/state-store.js";

const KEY = "host/settings";

const settings = z.object({
  /** Whether peers may replicate to this host. */
  acceptsReplicas: z.boolean(),
  monitoring,
  testFailovers: testFailoverSettings,
});

export type HostSettingValues = z.infer<typeof settings>;

/** What an administrator changes of a running host; one document of the state store. */
export class HostSettings {
  readonly #store: StateStore;
  #values: HostSettingValues;

  private constructor(store: StateStore, values: HostSettingValues) {
    this.#store = store;
    this.#values = values;
  }

  /** `defaults` hold for what was never set. */
  static async open(store: StateStore, defaults: HostSettingValues): Promise<HostSettings> {
    const document = await store.get(KEY);
    const parsed = settings.safeParse({ ...defaults, ...(document?.value as object | undefined) });
    if (!parsed.success) {
      throw new TidemarkError(
        "CORRUPT",
        `Cannot use the host's settings: because ${KEY} is damaged.`,
      );
    }
    return new HostSettings(store, parsed.data);
  }

  get values(): HostSettingValues {
    return this.#values;
  }

  /** Durable when it resolves. */
  async update(patch: Partial<HostSettingValues>): Promise<void> {
    const values = { ...this.#values, ...patch };
    await this.#store.put(KEY, values);
    this.#values = values;
  }
}
