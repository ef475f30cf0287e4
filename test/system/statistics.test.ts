/** Statistics and their history over real hosts, through the command line. */
import t, { type Test } from "tap";
import type { HistoryBucketBody, VmStatisticsBody } from "#lib/management/statistics-schemas.js";
import { Cli } from "../support/cli.js";
import {
  contentOfPoint,
  eventually,
  Guest,
  lastErrorOf,
  replicated,
  startPair,
} from "../support/loopback-host.js";
import { scratchDirectory } from "../support/program.js";

const directory = await scratchDirectory(t);
const { primary, replica, replicaUrl } = await startPair(t, directory);
const [onPrimary, onReplica] = [primary, replica].map(({ paths }) => new Cli(paths.directory)) as [
  Cli,
  Cli,
];
const guest = await Guest.make(directory, "vm1");
const statistics = (t: Test, ...more: string[]) =>
  onPrimary.json<VmStatisticsBody>(t, "vm", "statistics", "vm1", ...more);

void t.test("what a first copy and a few cycles come to", async (t) => {
  await guest.enable(primary, replicaUrl);
  await replicated(primary, "vm1");
  const half = guest.content.length / 2;
  const first = await statistics(t);
  t.match(first, {
    role: "primary",
    state: "replicating",
    currentTask: null,
    initialReplicationBytes: half,
  });
  t.equal(first.current?.diskChangedBytes["vda"], half, "by disk");
  for (let index = 0; index < 3; index += 1) {
    await guest.write(index * 8192, Buffer.alloc(4096, index + 1));
    await guest.write(1 << 20, Buffer.alloc(4096, index + 1));
    await replicated(primary, "vm1");
  }
  const { current, lagMs, pendingBytes, lastPointValidUntilMs } = await statistics(t);
  t.ok(current !== null && current.cycleCount >= 4);
  t.equal(current?.changedBytes, half + 3 * 2 * 4096, "every written block once a cycle");
  t.equal(current?.diskChangedBytes["vda"], current?.changedBytes);
  t.ok((current?.sentBytes ?? 0) > half * 0.9);
  t.ok((current?.compressionRatio ?? 0) > 0.9);
  t.ok((current?.pauseMs.max ?? 0) > 0 && (current?.durationMs.p99 ?? 0) > 0);
  t.ok((current?.durationMs.p50 ?? 0) <= (current?.durationMs.p99 ?? 0));
  t.ok(lagMs !== null && pendingBytes === 0 && (lastPointValidUntilMs ?? 0) > 0);
  const human = await onPrimary.text(t, "vm", "statistics", "vm1");
  t.match(human, /^vm1, primary: replicating, normal\nLag: /);
  t.match(human, /\n {2}Cycles: \d+ of \d+; /);
  t.match(human, /\n {2}Disk vda: 2\.0 MiB changed\n$/);
});

void t.test("the replica tells its side", async (t) => {
  await contentOfPoint(replica, "vm1");
  const told = await onReplica.json<VmStatisticsBody>(t, "vm", "statistics", "vm1");
  t.match(told, { role: "replica", current: null, state: null });
  t.ok((told.lastTestFailoverAtMs ?? 0) > Date.now() - 60_000);
  t.ok((told.lastPointTakenAtMs ?? 0) > 0 && (told.lagMs ?? -1) >= 0);
});

void t.test("errors of the network, missed cycles; a restart keeps all of it", async (t) => {
  await replica.stop();
  await guest.write(0, Buffer.alloc(4096, 77));
  await lastErrorOf(primary, "vm1", "UNREACHABLE");
  await eventually("a missed cycle", async () => {
    const { relationship } = await primary.vm("vm1");
    return (relationship?.missedCycleCount ?? 0) > 0;
  });
  await replica.start();
  await replicated(primary, "vm1");
  const before = (await statistics(t)).current;
  t.ok((before?.networkErrorCount ?? 0) > 0);
  t.ok((before?.errorCount ?? 0) >= (before?.networkErrorCount ?? 0));
  t.ok((before?.missedCount ?? 0) > 0 && (before?.missedShare ?? 0) > 0);
  guest.disconnect();
  await primary.stop();
  await primary.start();
  await replicated(primary, "vm1");
  const after = await statistics(t);
  t.equal(after.current?.beginMs, before?.beginMs);
  t.ok((after.current?.cycleCount ?? 0) > (before?.cycleCount ?? 0));
  t.equal(after.current?.changedBytes, before?.changedBytes);
});

void t.test("history, and counting anew", async (t) => {
  const history = (...more: string[]) =>
    onPrimary.json<HistoryBucketBody[]>(t, "vm", "statistics", "vm1", "--history", "1d", ...more);
  const cycles = await history("--cycles");
  const spans = await history();
  const sum = (all: readonly HistoryBucketBody[]) =>
    all.reduce((total, { changedBytes }) => total + changedBytes, 0);
  t.equal(sum(cycles), (await statistics(t)).current?.changedBytes);
  t.equal(sum(spans), sum(cycles));
  t.ok(spans.length <= 2 && spans.every(({ spanMs }) => spanMs === 300_000));
  t.match(await onPrimary.text(t, "vm", "statistics", "vm1", "--history", "1h"), /^AT +CYCLES/);
  const { current } = await statistics(t, "--reset");
  t.ok((current?.cycleCount ?? 99) <= 2 && current?.changedBytes === 0);
  t.ok((current?.beginMs ?? 0) > Date.now() - 60_000);
  t.equal(sum(await history()), sum(cycles), "the history stays");
});

void t.test("the monitoring interval", async (t) => {
  const show = await onPrimary.text(t, "host", "monitoring");
  t.equal(show, "Monitoring intervals of 12 h 0 min, from 9:00 on.\n");
  const set = await onPrimary.json<object>(
    t,
    "host",
    "monitoring",
    "--interval",
    "1h",
    "--start",
    "7:05",
  );
  t.same(set, { intervalMs: 3_600_000, startMinutes: 425 });
  await onPrimary.fails(t, "INVALID_ARGUMENT", "host", "monitoring", "--interval", "5m");
  await onPrimary.fails(t, "INVALID_ARGUMENT", "host", "monitoring", "--start", "25:00");
  await primary.stop();
  await primary.start();
  t.match(await onPrimary.text(t, "host", "monitoring"), /from 7:05 on/);
});

void t.test("a VM that is removed takes its statistics along", async (t) => {
  await onPrimary.text(t, "vm", "remove", "vm1");
  await onPrimary.fails(t, "NOT_FOUND", "vm", "statistics", "vm1");
});
