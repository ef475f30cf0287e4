/** The committed state of format version 1 is read by every later build. */
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import t from "tap";
import { EmbeddedStateStore } from "#lib/broker/embedded-state-store.js";
import { RelationshipJournal } from "#lib/replication/relationship-journal.js";

const FIXTURE = fileURLToPath(
  new URL("../fixtures/formats/state-store-v1/state.db", import.meta.url),
);
const VM = "0b9c6f5e-8f3a-4a53-9c1d-3c2f1f0d7a11";

void t.test("a VM, its relationship and the note of a doubt are there", async (t) => {
  const path = join(t.testdir(), "state.db");
  await copyFile(FIXTURE, path);
  const store = EmbeddedStateStore.open(path);
  t.match(await store.get(`vms/${VM}`), { value: { name: "web", disks: [{ name: "vda" }] } });
  const [document] = await store.list("relationships/");
  if (document === undefined) throw new Error("the fixture has a relationship");
  t.match(RelationshipJournal.fromDocument(store, document).record, {
    state: "replicating",
    cutSequence: 42,
    inDoubt: { attempt: 2, digest: "ab".repeat(32) },
    settings: { vmId: VM, intervalMs: 5000 },
  });
  await store.close();
});
