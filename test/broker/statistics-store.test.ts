import Database from "better-sqlite3";
import { mkdtemp, open as openFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { EmbeddedStatisticsStore } from "#lib/broker/embedded-statistics-store.js";
import { openStatistics } from "#lib/daemon/open-statistics.js";
import { emptyBucket } from "#lib/model/replication-history.js";
import { MemoryStatisticsStore } from "#lib/model/statistics-store.js";
import { statisticsStoreContract, TEST_LIMITS } from "../contracts/statistics-store.js";

async function temporaryFile(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tidemark-statistics-"));
  t.teardown(() => rm(directory, { recursive: true }));
  return join(directory, "statistics.db");
}

statisticsStoreContract(t as Test, "embedded", async (t) => {
  const store = EmbeddedStatisticsStore.open(await temporaryFile(t), TEST_LIMITS);
  t.teardown(() => store.close());
  return store;
});

statisticsStoreContract(t as Test, "memory", async () => new MemoryStatisticsStore(TEST_LIMITS));

const VM = "00000000-0000-4000-8000-000000000001";
const ALL = { fromMs: 0, untilMs: 1e15 };

void t.test("it is there after it is opened again, and has one owner", async (t) => {
  const path = await temporaryFile(t as Test);
  const first = EmbeddedStatisticsStore.open(path);
  const bucket = { ...emptyBucket(5_000_000, 0), cycleCount: 1 };
  await first.save([{ vmId: VM, counters: 7, buckets: [bucket] }], 5_000_000);
  t.throws(() => EmbeddedStatisticsStore.open(path), { code: "IN_USE" });
  await first.close();
  await t.rejects(first.counters(VM), { code: "CLOSED" });
  await using second = EmbeddedStatisticsStore.open(path);
  t.equal(await second.counters(VM), 7);
  t.same(await second.history(VM, { ...ALL, spanMs: 0 }), [bucket]);
});

void t.test("what cannot be read is set aside, and replication begins", async (t) => {
  const contents: ((path: string) => Promise<void> | void)[] = [
    (path) => writeFile(path, "no database at all, but long enough to be taken for one".repeat(99)),
    (path) => {
      const other = new Database(path);
      other.exec("CREATE TABLE t (x)");
      other.close();
    },
    (path) => {
      const later = new Database(path);
      later.exec("CREATE TABLE t (x); PRAGMA application_id = 0x544d7378; PRAGMA user_version = 9");
      later.close();
    },
    async (path) => {
      const damaged = EmbeddedStatisticsStore.open(path);
      const counters = { text: "x".repeat(100_000) };
      await damaged.save([{ vmId: VM, counters, buckets: [] }] as never, 0);
      await damaged.close();
      await using file = await openFile(path, "r+");
      await file.write(Buffer.alloc(4096, 0xee), 0, 4096, 4096);
    },
  ];
  for (const make of contents) {
    const path = await temporaryFile(t as Test);
    await make(path);
    t.throws(() => EmbeddedStatisticsStore.open(path), { code: /CORRUPT|FOREIGN|VERSION_UNKNOWN/ });
    const notices: string[] = [];
    const store = await openStatistics(path, (message) => notices.push(message));
    t.equal(await store.counters(VM), null);
    await store.close();
    t.match(notices, [/begin anew; what was there is set aside/]);
    const names = await readdir(join(path, ".."));
    t.ok(names.some((name) => name.startsWith("statistics.db.refused-")));
  }
});
