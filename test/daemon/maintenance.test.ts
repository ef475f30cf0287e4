/** Maintenance resumes just what it suspended, whenever the service dies on the way. */
import { randomUUID } from "node:crypto";
import t, { type Test } from "tap";
import { Maintenance } from "#lib/daemon/maintenance.js";
import { TidemarkError } from "#lib/model/errors.js";
import { MemoryStateStore } from "#lib/model/memory-state-store.js";
import type { RelationshipStatus } from "#lib/model/relationship.js";
import type { StateStore } from "#lib/model/state-store.js";

/** What survives a process: the store, and which VMs are suspended. */
class World {
  readonly store = new MemoryStateStore();
  readonly suspended = new Map<string, boolean>();
  /** Steps until the process dies; what was begun then has no effect. */
  stepsLeft = Number.POSITIVE_INFINITY;
  readonly notices: string[] = [];

  constructor(readonly initially: readonly boolean[]) {
    for (const isSuspended of initially) this.suspended.set(randomUUID(), isSuspended);
  }

  get states(): boolean[] {
    return [...this.suspended.values()];
  }

  async #step(): Promise<void> {
    await Promise.resolve();
    if (this.stepsLeft <= 0) await new Promise(() => {});
    this.stepsLeft -= 1;
  }

  open(): Promise<Maintenance> {
    const set = async (vmId: string, isSuspended: boolean) => {
      await this.#step();
      if (!this.suspended.has(vmId)) throw new TidemarkError("NOT_FOUND", "Cannot find it.");
      this.suspended.set(vmId, isSuspended);
    };
    const engine = {
      suspend: (vmId: string) => set(vmId, true),
      resume: (vmId: string) => set(vmId, false),
      status: () => Promise.reject(new Error("not asked for")),
      statuses: async () =>
        [...this.suspended].map(
          ([vmId, isSuspended]) =>
            ({
              settings: { vmId },
              state: isSuspended ? "suspended" : "replicating",
            }) as unknown as RelationshipStatus,
        ),
    };
    const store: StateStore = {
      get: (key) => this.store.get(key),
      list: (prefix) => this.store.list(prefix),
      put: async (key, value) => {
        await this.#step();
        return this.store.put(key, value);
      },
      delete: async (key) => {
        await this.#step();
        await this.store.delete(key);
      },
      close: async () => undefined,
    };
    return Maintenance.open(store, engine, (message) => this.notices.push(message));
  }
}

/** Whether it came to its end before the process died. */
async function until(work: Promise<unknown>): Promise<boolean> {
  const dead = new Promise<false>((resolve) => setTimeout(() => resolve(false), 5));
  return Promise.race([work.then(() => true), dead]);
}

async function dieAfter(t: Test, steps: number, order: "begin" | "end"): Promise<boolean> {
  const world = new World([false, true, false, false]);
  if (order === "end") await (await world.open()).begin();
  const first = await world.open();
  world.stepsLeft = steps;
  const isAnswered = await until(first[order]());
  world.stepsLeft = Number.POSITIVE_INFINITY;
  const second = await world.open();
  const name = `${order}, dead after ${steps} steps`;
  if (isAnswered) t.equal(second.sinceMs === null, order === "end", name);
  if (second.sinceMs !== null) t.same(world.states, [true, true, true, true], name);
  else t.same(world.states, world.initially, name);
  await second.end();
  t.same(world.states, world.initially, `${name}: just what was active is active again`);
  t.equal(second.sinceMs, null);
  await (await world.open()).end();
  t.same(world.states, world.initially);
  return isAnswered;
}

for (const order of ["begin", "end"] as const) {
  void t.test(`${order} survives the death of the service at any step`, async (t) => {
    let steps = 0;
    while (!(await dieAfter(t, steps, order))) steps += 1;
    t.ok(steps >= 4, `${steps} steps`);
  });
}

void t.test("begun twice is begun once; what joins in between is left alone", async (t) => {
  const world = new World([false, true]);
  const maintenance = await world.open();
  await maintenance.begin();
  const since = maintenance.sinceMs;
  await maintenance.begin();
  t.equal(maintenance.sinceMs, since);
  t.equal(
    maintenance.relationshipIds.length,
    1,
    "the second order did not take the suspended ones along",
  );
  t.throws(() => maintenance.refuseEnabling(), { code: "CONFLICT", hint: /maintenance off/ });
  await maintenance.end();
  t.same(world.states, world.initially);
  maintenance.refuseEnabling();
});

void t.test("an administrator's own order is the last word", async (t) => {
  const world = new World([false, false, false]);
  const [kept, resumed, removed] = [...world.suspended.keys()] as [string, string, string];
  const maintenance = await world.open();
  await maintenance.begin();
  await maintenance.forget(kept);
  await maintenance.forget(resumed);
  world.suspended.set(resumed, false);
  world.suspended.delete(removed);
  await world.open();
  t.equal(world.suspended.get(resumed), false, "not suspended again by a restart");
  await (await world.open()).end();
  t.same([world.suspended.get(kept), world.suspended.get(resumed)], [true, false]);
  t.same(world.notices, [], "one that is gone is no trouble");
});
