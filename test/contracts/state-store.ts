import type { StateStore } from "#lib/model/state-store.js";
import type { Test } from "tap";

/** Each test of the suite runs on a store of its own. */
export function stateStoreContract(
  t: Test,
  name: string,
  open: (t: Test) => Promise<StateStore>,
): Promise<unknown> {
  return t.test(`state store contract: ${name}`, async (t) => {
    await t.test("a document that was never put is null", async (t) => {
      const store = await open(t);
      t.equal(await store.get("nothing"), null);
      t.same(await store.list(""), []);
    });

    await t.test("what is put is read back as JSON, with versions from 1", async (t) => {
      const store = await open(t);
      const value = { text: "ä\u0000\n", list: [1, null, { deep: true }], big: 2 ** 53 - 1 };
      t.equal(await store.put("a", value), 1);
      t.same(await store.get("a"), { key: "a", value, version: 1 });
      t.equal(await store.put("a", null), 2);
      t.same(await store.get("a"), { key: "a", value: null, version: 2 });
    });

    await t.test("a stored value is a copy of what was given and of what was read", async (t) => {
      const store = await open(t);
      const given = { list: [1] };
      await store.put("a", given);
      given.list.push(2);
      const read = (await store.get("a"))?.value as { list: number[] };
      read.list.push(3);
      t.same((await store.get("a"))?.value, { list: [1] });
    });

    await t.test("a put is refused when the version is not the expected one", async (t) => {
      const store = await open(t);
      await t.rejects(store.put("a", 1, 1), { code: "CONFLICT" }, "1 expected, missing");
      t.equal(await store.put("a", 1, 0), 1);
      await t.rejects(store.put("a", 2, 0), { code: "CONFLICT" }, "0 expected, there");
      t.equal(await store.put("a", 2, 1), 2);
      await t.rejects(store.put("a", 3, 1), { code: "CONFLICT" }, "a lost race");
      t.same(await store.get("a"), { key: "a", value: 2, version: 2 });
    });

    await t.test("of two compare-and-set puts at once, one wins", async (t) => {
      const store = await open(t);
      const outcomes = await Promise.allSettled([store.put("a", "x", 0), store.put("a", "y", 0)]);
      t.equal(outcomes.filter((outcome) => outcome.status === "fulfilled").length, 1);
    });

    await t.test("a delete is refused when the version is not the expected one", async (t) => {
      const store = await open(t);
      await store.put("a", 1);
      await store.put("a", 2);
      await t.rejects(store.delete("a", 1), { code: "CONFLICT" });
      await store.delete("a", 2);
      t.equal(await store.get("a"), null);
      await store.delete("a");
      await t.rejects(store.delete("a", 1), { code: "CONFLICT" });
    });

    await t.test("a list holds the keys of a prefix, in key order", async (t) => {
      const store = await open(t);
      for (const key of ["vm/b", "vm/a", "vm", "vm/", "vn/a", "vm0", "v%/x", "v_/x"]) {
        await store.put(key, key);
      }
      const keysOf = async (prefix: string) => (await store.list(prefix)).map(({ key }) => key);
      t.same(await keysOf("vm/"), ["vm/", "vm/a", "vm/b"]);
      t.same(await keysOf("v%"), ["v%/x"]);
      t.same(await keysOf("v_"), ["v_/x"]);
      t.same(await keysOf("w"), []);
      t.equal((await keysOf("")).length, 8);
    });

    await t.test("a value without a JSON form is refused", async (t) => {
      const store = await open(t);
      await t.rejects(store.put("a", undefined), { code: "INVALID_ARGUMENT" });
      t.equal(await store.get("a"), null);
    });

    await t.test("closing twice is closing once", async (t) => {
      const store = await open(t);
      await store.close();
      await store.close();
    });
  });
}
