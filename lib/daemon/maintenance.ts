import { z } from "zod";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { relationshipIdOf } from "../model/relationship-settings.js";
import type { StateStore } from "../model/state-store.js";
import { AsyncLock } from "../replica/async-lock.js";
import type { ReplicationEngine } from "../replication/replication-engine.js";

const KEY = "host/maintenance";

const document = z.object({
  sinceMs: z.number(),
  /** "ending": they are being resumed. */
  phase: z.enum(["on", "ending"]),
  /** The relationships' ids; a VM's is its first target's. */
  vmIds: z.array(z.uuid()),
});

type MaintenanceDocument = z.infer<typeof document>;
type Engine = Pick<ReplicationEngine, "statuses" | "status" | "suspend" | "resume">;

/**
 * Maintenance of this host: what was active is suspended, and its end resumes just that.
 * Which VMs these are is durable before the first one is suspended, so that an
 * interruption at any step is gone on with at the next start.
 */
export class Maintenance {
  readonly #store: StateStore;
  readonly #engine: Engine;
  readonly #onNotice: (message: string) => void;
  readonly #lock = new AsyncLock();
  #document: MaintenanceDocument | null;

  private constructor(
    store: StateStore,
    engine: Engine,
    onNotice: (message: string) => void,
    found: MaintenanceDocument | null,
  ) {
    this.#store = store;
    this.#engine = engine;
    this.#onNotice = onNotice;
    this.#document = found;
  }

  /** Goes on with what was interrupted. */
  static async open(
    store: StateStore,
    engine: Engine,
    onNotice: (message: string) => void,
  ): Promise<Maintenance> {
    const stored = await store.get(KEY);
    const parsed = stored === null ? null : document.parse(stored.value);
    const maintenance = new Maintenance(store, engine, onNotice, parsed);
    await maintenance.#goOn();
    return maintenance;
  }

  get sinceMs(): number | null {
    return this.#document?.sinceMs ?? null;
  }

  get relationshipIds(): readonly string[] {
    return this.#document?.vmIds ?? [];
  }

  begin(): Promise<void> {
    return this.#lock.run(async () => {
      if (this.#document !== null) return;
      const active = (await this.#engine.statuses()).filter(({ state }) => state !== "suspended");
      const vmIds = active.map(({ settings }) => relationshipIdOf(settings));
      await this.#note({ sinceMs: Date.now(), phase: "on", vmIds });
      await this.#goOn();
    });
  }

  end(): Promise<void> {
    return this.#lock.run(async () => {
      if (this.#document === null) return;
      await this.#note({ ...this.#document, phase: "ending" });
      await this.#goOn();
    });
  }

  /** An administrator has given an order for it: maintenance does nothing to it any more. */
  forget(relationshipId: string): Promise<void> {
    return this.#lock.run(async () => {
      if (this.#document === null || !this.#document.vmIds.includes(relationshipId)) return;
      const vmIds = this.#document.vmIds.filter((id) => id !== relationshipId);
      await this.#note({ ...this.#document, vmIds });
    });
  }

  refuseEnabling(): void {
    if (this.#document === null) return;
    throw new TidemarkError(
      "CONFLICT",
      "Cannot enable replication: because this host is in maintenance.",
      {
        hint: "End it with `tidemark host maintenance off`.",
      },
    );
  }

  async #goOn(): Promise<void> {
    const { phase, vmIds } = this.#document ?? { phase: "on", vmIds: [] };
    const act = phase === "on" ? "suspend" : "resume";
    await Promise.all(vmIds.map((id) => this.#apply(act, id)));
    if (phase === "ending") await this.#note(null);
  }

  /** One that cannot be is no reason to leave out the others. */
  async #apply(act: "suspend" | "resume", id: string): Promise<void> {
    try {
      await this.#engine[act](id);
    } catch (thrown) {
      const { code, message } = toTidemarkError(thrown);
      if (code !== "NOT_FOUND")
        this.#onNotice(`Cannot ${act} the replication of ${id}: because ${message}`);
    }
  }

  async #note(next: MaintenanceDocument | null): Promise<void> {
    if (next === null) await this.#store.delete(KEY);
    else await this.#store.put(KEY, next);
    this.#document = next;
  }
}
