import { stat } from "node:fs/promises";
import type { StatisticsRecorder } from "../replication/statistics-recorder.js";
import { PointCopies } from "../replica/point-copies.js";
import type { PointExports } from "../replica/point-exports.js";
import { VmPaths } from "../replica/store-paths.js";
import type { ReplicaStore } from "../replica/replica-store.js";
import { TestFailovers } from "../replica/test-failovers.js";
import { Verifications } from "../replica/verifications.js";
import { systemClock } from "../replication/system-clock.js";
import { spaceOf } from "./greet-peers.js";
import { describeTests } from "./describe-tests.js";
import type { HostConfiguration } from "./host-configuration.js";
import type { HostSettings } from "./host-settings.js";
import { Retention } from "./retention.js";
import { ScrubSchedule } from "./scrub-schedule.js";

const SCRUB_CHECK_INTERVAL_MS = 60_000;
const RETENTION_CHECK_INTERVAL_MS = 10_000;

export interface ReplicaCareOptions {
  readonly store: ReplicaStore;
  readonly pointExports: PointExports;
  readonly statistics: StatisticsRecorder;
  readonly settings: HostSettings;
  readonly configuration: HostConfiguration;
  readonly replicaRoot: string;
  readonly socketDirectory: string;
  readonly log: (message: string) => void;
  /** Closes it when the host ends. */
  readonly keep: <T extends { close(): Promise<void> }>(opened: T) => T;
}

/** What works on replicas beside replication. */
export interface ReplicaCare {
  readonly pointCopies: PointCopies;
  readonly verifications: Verifications;
  readonly testFailovers: TestFailovers;
  readonly retention: Retention;
}

/** After the exports: what they serve must be known before anything is merged. */
export async function openReplicaCare(options: ReplicaCareOptions): Promise<ReplicaCare> {
  const { store, configuration, socketDirectory, log, keep } = options;
  const { scrubIntervalMs: intervalMs, scrubBytesPerSecond: bytesPerSecond } = configuration;
  const clock = systemClock;
  const verifications = keep(new Verifications({ store, clock, bytesPerSecond }));
  if (intervalMs > 0) {
    const checkIntervalMs = Math.min(SCRUB_CHECK_INTERVAL_MS, intervalMs);
    const { replicaRoot } = options;
    const madeAtMs = async (vmId: string) =>
      (await stat(new VmPaths(replicaRoot, vmId).directory)).birthtimeMs;
    const schedule = { store, verifications, clock, intervalMs, checkIntervalMs, madeAtMs };
    keep(new ScrubSchedule({ ...schedule, onWarning: log }));
  }
  const pointCopies = keep(new PointCopies({ store, socketDirectory }));
  const testFailovers = openTestFailovers(options, verifications);
  await testFailovers.reportDropped();
  const retention = startRetention(options, testFailovers);
  return { pointCopies, verifications, testFailovers, retention };
}

function openTestFailovers(
  { pointExports: exports, statistics, log, keep }: ReplicaCareOptions,
  verifications: Verifications,
): TestFailovers {
  const onEnd = statistics.noteTestFailoverEnd.bind(statistics);
  const clock = systemClock;
  return keep(new TestFailovers({ exports, verifications, clock, onEnd, onWarning: log }));
}

function startRetention(
  { store, configuration, settings, replicaRoot, log, keep }: ReplicaCareOptions,
  testFailovers: TestFailovers,
): Retention {
  const { retention: policy, quotaBytes, freeSpaceFloorBytes } = configuration;
  const retention = new Retention({
    store,
    settings: { ...policy, quotaBytes },
    freeSpaceFloorBytes,
    space: () => spaceOf(replicaRoot),
    checkIntervalMs: RETENTION_CHECK_INTERVAL_MS,
    tests: {
      describe: async (vmIds) => describeTests(await testFailovers.list(), vmIds),
      endOldest: async (vmIds) =>
        settings.values.testFailovers.endOnShortage && (await testFailovers.endOldest(vmIds)),
    },
    onWarning: log,
  });
  retention.start();
  return keep(retention);
}
