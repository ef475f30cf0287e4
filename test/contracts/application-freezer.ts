import type { Test } from "tap";
import type { ApplicationFreezer } from "#lib/model/application-freezer.js";

/** The applications of one VM, and who freezes them. */
export interface FreezerScene {
  /** As a process of its own would have it. */
  open(): ApplicationFreezer;
  isFrozen(): Promise<boolean>;
  /** From now on a freeze does not end by itself. */
  hangFreezing(): Promise<void>;
  /** Resolves when one is under way. */
  isFreezing(): Promise<void>;
  failFreezing(): Promise<void>;
  hangThawing(): Promise<void>;
  /** Freezing and thawing work again. */
  heal(): Promise<void>;
}

const FIRST = "f1111111-1111-4111-8111-111111111111";
const SECOND = "f2222222-2222-4222-8222-222222222222";
const never = new AbortController().signal;

export function applicationFreezerContract(
  t: Test,
  name: string,
  make: (t: Test) => Promise<FreezerScene>,
): Promise<unknown> {
  return t.test(`application freezer contract: ${name}`, async (t) => {
    for (const [title, rule] of Object.entries(RULES)) {
      await t.test(title, async (t) => rule(t, await make(t)));
    }
  });
}

const RULES: Readonly<Record<string, (t: Test, scene: FreezerScene) => Promise<void>>> = {
  "frozen between freeze and thaw, again and again": async (t, scene) => {
    const freezer = scene.open();
    for (const freezeId of [FIRST, SECOND]) {
      await freezer.freeze(freezeId, never);
      t.equal(await scene.isFrozen(), true);
      await freezer.thaw(freezeId, never);
      t.equal(await scene.isFrozen(), false);
    }
  },

  "a thaw of what was never frozen, or is thawed, does nothing": async (t, scene) => {
    const freezer = scene.open();
    await freezer.thaw(FIRST, never);
    await freezer.freeze(SECOND, never);
    await freezer.thaw(SECOND, never);
    await freezer.thaw(SECOND, never);
    t.equal(await scene.isFrozen(), false);
  },

  "what an earlier process has frozen is thawed by the next one": async (t, scene) => {
    await scene.open().freeze(FIRST, never);
    await scene.open().thaw(FIRST, never);
    t.equal(await scene.isFrozen(), false);
  },

  "a failure is told, and thawed like any other": async (t, scene) => {
    await scene.failFreezing();
    const freezer = scene.open();
    await t.rejects(freezer.freeze(FIRST, never), { name: "TidemarkError" });
    await freezer.thaw(FIRST, never);
    t.equal(await scene.isFrozen(), false);
    await scene.heal();
    await freezer.freeze(SECOND, never);
    t.equal(await scene.isFrozen(), true);
  },

  "an aborted freeze rejects with the reason, and does not freeze after its thaw": async (
    t,
    scene,
  ) => {
    await scene.hangFreezing();
    const stop = new AbortController();
    const freezer = scene.open();
    const freezing = freezer.freeze(FIRST, stop.signal);
    await scene.isFreezing();
    stop.abort(new Error("enough"));
    await t.rejects(freezing, { message: "enough" });
    await freezer.thaw(FIRST, never);
    await scene.heal();
    t.equal(await scene.isFrozen(), false);
  },

  "a freeze that an earlier process began does not freeze after its thaw": async (t, scene) => {
    await scene.hangFreezing();
    const freezing = scene
      .open()
      .freeze(FIRST, never)
      .catch(() => undefined);
    await scene.isFreezing();
    await scene.open().thaw(FIRST, never);
    await scene.heal();
    await freezing;
    t.equal(await scene.isFrozen(), false);
  },

  "an aborted thaw rejects with the reason, and may be repeated": async (t, scene) => {
    const freezer = scene.open();
    await freezer.freeze(FIRST, never);
    await scene.hangThawing();
    const stop = new AbortController();
    const thawing = freezer.thaw(FIRST, stop.signal);
    stop.abort(new Error("enough"));
    await t.rejects(thawing, { message: "enough" });
    await scene.heal();
    await freezer.thaw(FIRST, never);
    t.equal(await scene.isFrozen(), false);
  },

  "nothing begins when the signal has aborted before": async (t, scene) => {
    const aborted = AbortSignal.abort(new Error("enough"));
    await t.rejects(scene.open().freeze(FIRST, aborted), { message: "enough" });
    t.equal(await scene.isFrozen(), false);
  },
};
