import type { StateStore } from "#lib/model/state-store.js";
import type { Test } from "tap";

/** Each rule is tried on a store of its own. */
export function stateStoreContract(
  t: Test,
  name: string,
  open: (t: Test) => Promise<StateStore>,
): Promise<unknown> {
  return t.test(`state store contract: ${name}`, async (t) => {
    for (const [title, rule] of Object.entries(RULES)) {
      await t.test(title, async (t) => rule(t, await open(t)));
    }
  });
}

const RULES: Readonly<Record<string, (t: Test, store: StateStore) => Promise<void>>> = {
  "a document that was never put is null": async (t, store) => {
    t.equal(await store.get("nothing"), null);
    t.same(await store.list(""), []);
  },

  "what is put is read back as JSON, with versions from 1": async (t, store) => {
    const value = { text: "ä\u0000\n", list: [1, null, { deep: true }], big: 2 ** 53 - 1 };
    t.equal(await store.put("a", value), 1);
    t.same(await store.get("a"), { key: "a", value, version: 1 });
    t.equal(await store.put("a", null), 2);
    t.same(await store.get("a"), { key: "a", value: null, version: 2 });
  },

  "a stored value is a copy of what was given and of what was read": async (t, store) => {
    const given = { list: [1] };
    await store.put("a", given);
    given.list.push(2);
    const read = (await store.get("a"))?.value as { list: number[] };
    read.list.push(3);
    t.same((await store.get("a"))?.value, { list: [1] });
  },

  "a put is refused when the version is not the expected one": async (t, store) => {
    await t.rejects(store.put("a", 1, 1), { code: "CONFLICT" }, "1 expected, missing");
    t.equal(await store.put("a", 1, 0), 1);
    await t.rejects(store.put("a", 2, 0), { code: "CONFLICT" }, "0 expected, there");
    t.equal(await store.put("a", 2, 1), 2);
    await t.rejects(store.put("a", 3, 1), { code: "CONFLICT" }, "a lost race");
    t.same(await store.get("a"), { key: "a", value: 2, version: 2 });
  },

  "of two compare-and-set puts at once, one wins": async (t, store) => {
    const outcomes = await Promise.allSettled([store.put("a", "x", 0), store.put("a", "y", 0)]);
    t.equal(outcomes.filter((outcome) => outcome.status === "fulfilled").length, 1);
  },

  "a delete is refused when the version is not the expected one": async (t, store) => {
    await store.put("a", 1);
    await store.put("a", 2);
    await t.rejects(store.delete("a", 1), { code: "CONFLICT" });
    await store.delete("a", 2);
    t.equal(await store.get("a"), null);
    await store.delete("a");
    await t.rejects(store.delete("a", 1), { code: "CONFLICT" });
  },

  "a list holds the keys of a prefix, in key order": async (t, store) => {
    for (const key of ["vm/b", "vm/a", "vm", "vm/", "vn/a", "vm0", "v%/x", "v_/x"]) {
      await store.put(key, key);
    }
    const keysOf = async (prefix: string) => (await store.list(prefix)).map(({ key }) => key);
    t.same(await keysOf("vm/"), ["vm/", "vm/a", "vm/b"]);
    t.same(await keysOf("v%"), ["v%/x"]);
    t.same(await keysOf("v_"), ["v_/x"]);
    t.same(await keysOf("w"), []);
    t.equal((await keysOf("")).length, 8);
  },

  "a value without a JSON form is refused": async (t, store) => {
    await t.rejects(store.put("a", undefined), { code: "INVALID_ARGUMENT" });
    t.equal(await store.get("a"), null);
  },

  "closing twice is closing once": async (t, store) => {
    await store.close();
    await t.resolves(store.close());
  },
};
