import { EmbeddedStateStore } from "#lib/broker/embedded-state-store.js";
import Database from "better-sqlite3";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, open as openFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { stateStoreContract } from "../contracts/state-store.js";

async function temporaryFile(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tidemark-state-"));
  t.teardown(() => rm(directory, { recursive: true }));
  return join(directory, "state.db");
}

void stateStoreContract(t, "embedded", async (t) => {
  const store = EmbeddedStateStore.open(await temporaryFile(t));
  t.teardown(() => store.close());
  return store;
});

void t.test("a closed store refuses every call", async (t) => {
  const store = EmbeddedStateStore.open(await temporaryFile(t));
  await store.close();
  await t.rejects(store.get("a"), { code: "CLOSED" });
  await t.rejects(store.put("a", 1), { code: "CLOSED" });
  await t.rejects(store.list(""), { code: "CLOSED" });
  await t.rejects(store.delete("a"), { code: "CLOSED" });
});

void t.test("documents are there after the store is opened again", async (t) => {
  const path = await temporaryFile(t);
  await using first = EmbeddedStateStore.open(path);
  await first.put("a", { x: 1 });
  await first.put("a", { x: 2 });
  await first.close();
  await using second = EmbeddedStateStore.open(path);
  t.same(await second.get("a"), { key: "a", value: { x: 2 }, version: 2 });
});

void t.test("a store that is open is refused to another, in this process", async (t) => {
  const path = await temporaryFile(t);
  await using _first = EmbeddedStateStore.open(path);
  t.throws(() => EmbeddedStateStore.open(path), { code: "IN_USE", message: /another process/ });
});

/** A process that opens the store, puts, says so, and stays. */
const HOLDER = `
  const { EmbeddedStateStore } = await import(process.argv[1]);
  const store = EmbeddedStateStore.open(process.argv[2]);
  for (let n = 1; ; n += 1) {
    await store.put("count", n);
    process.stdout.write(n + "\\n");
    await new Promise((done) => setTimeout(done, 1));
  }`;

void t.test("kill -9 of its holder frees the store, with every answered put in it", async (t) => {
  const path = await temporaryFile(t);
  const module = import.meta.resolve("#lib/broker/embedded-state-store.js");
  const child = spawn(process.execPath, ["--input-type=module", "-e", HOLDER, module, path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
    if (output.split("\n").length === 20) {
      t.throws(() => EmbeddedStateStore.open(path), { code: "IN_USE" }, "while it is held");
    }
    if (output.split("\n").length > 40) child.kill("SIGKILL");
  });
  await exited;
  const answered = Number(output.trimEnd().split("\n").at(-1));
  await using store = EmbeddedStateStore.open(path);
  const count = (await store.get("count"))?.value as number;
  t.ok(count >= answered, `${count} of ${answered}`);
});

void t.test("bad files each get their own error", async (t) => {
  const path = await temporaryFile(t);
  t.throws(() => EmbeddedStateStore.open(join(path, "missing", "state.db")), { code: "NOT_FOUND" });

  await writeFile(path, "this is no database, and long enough to be looked at ".repeat(20));
  t.throws(() => EmbeddedStateStore.open(path), { code: "CORRUPT" });
  await rm(path);

  const other = new Database(path);
  other.exec("CREATE TABLE t (x)");
  other.close();
  t.throws(() => EmbeddedStateStore.open(path), { code: "FOREIGN" });
  await rm(path);

  await EmbeddedStateStore.open(path).close();
  const newer = new Database(path);
  newer.pragma("user_version = 9");
  newer.close();
  t.throws(() => EmbeddedStateStore.open(path), { code: "VERSION_UNKNOWN", message: /9.*1/ });
});

void t.test("a damaged or truncated file is CORRUPT, not empty", async (t) => {
  const path = await temporaryFile(t);
  const store = EmbeddedStateStore.open(path);
  for (let n = 0; n < 500; n += 1) await store.put(`key/${n}`, "x".repeat(100));
  await store.close();

  const file = await openFile(path, "r+");
  await file.write(Buffer.alloc(4096, 0xee), 0, 4096, 8192);
  await file.close();
  t.throws(() => EmbeddedStateStore.open(path), { code: "CORRUPT" });

  await truncate(path, 8192);
  t.throws(() => EmbeddedStateStore.open(path), { code: "CORRUPT" });
});
