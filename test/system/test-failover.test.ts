/** Test failovers over real hosts, written to while replication goes on. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { TestFailoverBody } from "#lib/management/test-failover-schemas.js";
import { Cli } from "../support/cli.js";
import { readDisk } from "../support/journal-oracle.js";
import { NbdClient } from "../support/nbd-client.js";
import { tidemark } from "../support/program.js";
import { ReplicatedVm, VM } from "../support/replicated-vm.js";
import { SeededRandom } from "../support/seeded-random.js";

t.setTimeout(240_000);

const LARGEST_WRITE_BYTES = 64 << 10;
const SECTOR_BYTES = 512;

const vm = await ReplicatedVm.start(41);
t.teardown(() => vm.close());
const { replica } = vm;

const open = (pointId: string) => replica.api.call("testFailover", { pointId }, { vm: VM });
const listed = () => replica.api.call("testFailoverList", {}, { vm: VM });
const scratches = () => readdir(join(replica.directory, "scratch"));

/** Somebody who tries out what a disk of a test failover is good for. */
class Tester {
  readonly #client: NbdClient;
  readonly #content: Buffer;
  readonly #random: SeededRandom;
  #running: Promise<void> = Promise.resolve();
  #isStopped = false;
  writeCount = 0;

  private constructor(client: NbdClient, content: Buffer, random: SeededRandom) {
    this.#client = client;
    this.#content = content;
    this.#random = random;
  }

  static async start(uri: string, seed: number): Promise<Tester> {
    const tester = new Tester(
      await NbdClient.connect(uri),
      await readDisk(uri),
      new SeededRandom(seed),
    );
    tester.#running = tester.#run();
    // Told by stop(): its host may die before that.
    tester.#running.catch(() => undefined);
    return tester;
  }

  /** What the disk must hold. */
  async stop(): Promise<Buffer> {
    this.#isStopped = true;
    await this.#running;
    this.#client.close();
    return this.#content;
  }

  async #run(): Promise<void> {
    while (!this.#isStopped) {
      const sectors = this.#content.length / SECTOR_BYTES;
      const offset = this.#random.below(sectors) * SECTOR_BYTES;
      const most = Math.min(LARGEST_WRITE_BYTES, this.#content.length - offset);
      const length = (1 + this.#random.below(most / SECTOR_BYTES)) * SECTOR_BYTES;
      const bytes = Buffer.alloc(length, this.#random.below(256));
      await this.#client.write(offset, bytes);
      bytes.copy(this.#content, offset);
      this.writeCount += 1;
    }
  }
}

const startTesters = (tests: readonly TestFailoverBody[]) =>
  Promise.all(
    tests
      .flatMap(({ disks }) => disks.map(({ uri }) => uri))
      .map((uri, seed) => Tester.start(uri, seed)),
  );

async function openTwo(): Promise<readonly TestFailoverBody[]> {
  const points = await vm.points();
  return [await open(points[0]?.pointId ?? ""), await open(points.at(-1)?.pointId ?? "")];
}

async function requireAsGuestWrote(t: Test): Promise<void> {
  t.same(await vm.faults(new Set()), [], "every point that is kept holds the guest's history");
}

void t.test(
  "T41 G5: two tests of different points are written to, cycles go on, no point changes",
  async (t) => {
    const tests = await openTwo();
    const [older, newest] = tests;
    t.not(older?.point.pointId, newest?.point.pointId);
    const testers = await startTesters(tests);
    for (let cycle = 0; cycle < 3; cycle += 1) await vm.nextPoint();
    await requireAsGuestWrote(t);
    const seen = await listed();
    t.equal(seen.open.length, 2);
    for (const { test } of seen.open) {
      t.equal(test.clientCount, 2);
      t.ok(test.scratchBytes > 0, `${test.scratchBytes} bytes of scratch`);
    }
    const uris = tests.flatMap(({ disks }) => disks.map(({ uri }) => uri));
    for (const [index, tester] of testers.entries()) {
      const expected = await tester.stop();
      t.ok(tester.writeCount > 10, `${tester.writeCount} writes`);
      t.ok((await readDisk(uris[index] ?? "")).equals(expected), "the test sees its own writes");
    }
    for (const { exportId } of tests) {
      await replica.api.call("exportClose", {}, { export: exportId });
    }
    t.same(await scratches(), []);
    await vm.nextPoint();
    await requireAsGuestWrote(t);
  },
);

void t.test("T41 G9: kill -9 of the replica drops its tests, and says so", async (t) => {
  const tests = await openTwo();
  const testers = await startTesters(tests);
  await vm.nextPoint();
  t.equal((await scratches()).length, 2);
  await replica.kill();
  for (const tester of testers) await t.rejects(tester.stop(), "it was writing until then");
  await replica.start();
  t.same(await scratches(), [], "their scratches went at the start");
  const { open: left, last } = await listed();
  t.same(left, []);
  t.match(last, { outcome: "death of the service" });
  t.ok(tests.some(({ exportId }) => exportId === last?.exportId));
  const text = await tidemark("--dir", replica.directory, "vm", "statistics", VM);
  t.match(text.stdout, /Last test failover: .* ended by: death of the service/);
  await vm.nextPoint();
  await requireAsGuestWrote(t);
});

const HOUR_MS = 3_600_000;
const lifeOf = ({ test }: TestFailoverBody) => Math.round((test.untilMs ?? 0) - test.sinceMs);

/** One of two: it has to be named. */
async function prolongOne(t: Test, cli: Cli, { exportId }: TestFailoverBody): Promise<void> {
  await cli.fails(t, "CONFLICT", "vm", "test-failover", VM, "--extend", "1h");
  const named = ["--test", exportId];
  const [longer] = await cli.json<TestFailoverBody[]>(
    t,
    "vm",
    "test-failover",
    VM,
    "--extend",
    "1h",
    ...named,
  );
  t.ok(longer !== undefined && Math.abs(lifeOf(longer) - 3 * HOUR_MS) < 1000);
  const past = ["--until", "2020-01-01T00:00", ...named];
  await cli.fails(t, "INVALID_ARGUMENT", "vm", "test-failover", VM, ...past);
}

void t.test("the host's settings hold for tests that say nothing else", async (t) => {
  const cli = new Cli(replica.directory);
  const MIB = 1 << 20;
  const text = await cli.text(t, "host", "test-failovers");
  t.match(
    text,
    /^A test failover lasts 24 h 0 min, and may take what the floor .*does not end it\.\n$/,
  );
  const set = ["--for", "2h", "--scratch", "8MiB", "--end-on-shortage", "on"];
  const settings = { forMs: 2 * HOUR_MS, scratchLimitBytes: 8 * MIB, endOnShortage: true };
  t.same(await cli.json(t, "host", "test-failovers", ...set), settings);
  const plain = await cli.json<TestFailoverBody>(t, "vm", "test-failover", VM);
  t.match(plain.test, { scratchLimitBytes: 8 * MIB, check: null });
  t.ok(Math.abs(lifeOf(plain) - 2 * HOUR_MS) < 1000);
  const own = ["--for", "forever", "--scratch", "none", "--check"];
  const other = await cli.json<TestFailoverBody>(t, "vm", "test-failover", VM, ...own);
  t.match(other.test, { untilMs: null, scratchLimitBytes: null, check: { state: "good" } });

  await prolongOne(t, cli, plain);
  for (const id of [plain.exportId, other.exportId]) await cli.text(t, "vm", "close", id);
  await cli.fails(t, "NOT_FOUND", "vm", "test-failover", VM, "--extend", "1h");

  const configuration = await replica.api.call("configurationExport", {});
  t.same(configuration.host.testFailovers, settings);
  const testFailovers = { ...settings, forMs: null };
  const host = { ...configuration.host, testFailovers };
  await replica.api.call("configurationImport", { configuration: { ...configuration, host } });
  t.same(await replica.api.call("testFailoverSettings", {}), testFailovers);
});

void t.test("a test ends by itself, and its client with it", async (t) => {
  const body = { pointId: (await vm.points())[0]?.pointId ?? "", forMs: 1000 };
  const opened = await replica.api.call("testFailover", body, { vm: VM });
  const client = await NbdClient.connect(opened.disks[0]?.uri ?? "");
  const last = await vm.waitFor("its end", async () => {
    const { last: ended } = await listed();
    return ended?.exportId === opened.exportId && ended;
  });
  t.equal(last.outcome, "time limit");
  await t.rejects(client.read(0, SECTOR_BYTES));
  await replica.stop();
  await replica.start();
  t.same((await listed()).last, last, "known after a restart");
});
