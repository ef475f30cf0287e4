import { type FioJob, jobName } from "../fio.js";
import type { BenchContext, Derived, Row, Trial, Workload } from "../model.js";
import { NBD_METRICS, nbdTrial, rawTrial } from "../nbd-trial.js";
import { isInstalled } from "../program.js";
import { installedPeers, type ServerKind, trackedServer, UNTRACKED } from "../servers.js";

const PEER_NAMES = ["qemu-nbd", "nbdkit"] as const;
const SMALL_BYTES = 4096;
const LARGE_BYTES = 2 ** 20;
const LOADS = [
  { queueDepth: 1, connections: 1 },
  { queueDepth: 32, connections: 1 },
  { queueDepth: 32, connections: 4 },
] as const;

function allJobs(): FioJob[] {
  const small = (["randread", "randwrite", "randrw"] as const).flatMap((mix) =>
    LOADS.map((load) => ({ mix, blockBytes: SMALL_BYTES, ...load })),
  );
  const large = (["read", "write"] as const).map((mix) => ({
    mix,
    blockBytes: LARGE_BYTES,
    queueDepth: 8,
    connections: 1,
  }));
  return [...small, ...large];
}

/** One of each kind of load. */
const QUICK_JOBS: ReadonlySet<string> = new Set([
  "4k randread 1x1",
  "4k randwrite 4x32",
  "1m read 1x8",
]);

function groupOf(job: FioJob, servers: readonly ServerKind[], context: BenchContext): Trial[] {
  const trials = servers.map((server) => nbdTrial(job, server, context));
  const isSerial = job.queueDepth === 1 && job.connections === 1;
  return isSerial ? [...trials, rawTrial(job, context)] : trials;
}

/** What a server adds to the mean latency of the bare system call. */
function addedLatency(rows: readonly Row[]): Derived[] {
  return rows
    .filter((row) => row.subject !== "raw file" && row.caseName.endsWith(" 1x1"))
    .flatMap((row) => {
      const raw = rows.find(
        (candidate) => candidate.caseName === row.caseName && candidate.subject === "raw file",
      );
      const [served, bare] = [row.metrics["meanUs"]?.median, raw?.metrics["meanUs"]?.median];
      if (served === undefined || bare === undefined) return [];
      const name = `latency added over the raw file, ${row.caseName}, ${row.subject}`;
      return [{ name, value: served - bare, unit: "µs" }];
    });
}

export const nbd: Workload = {
  name: "nbd",
  summary: "NBD over a Unix socket by fio, all servers on the same file in the page cache",
  metrics: NBD_METRICS,
  peerRatio: { metric: "iops", peers: PEER_NAMES },
  plan: (context) => {
    if (!isInstalled("fio")) {
      return Promise.resolve({ groups: [], rounds: 0, skipped: ["nbd: fio is not installed"] });
    }
    const { peers, skipped } = installedPeers();
    const servers = [trackedServer(), UNTRACKED, ...peers];
    const { isQuick, rounds } = context.sizing;
    const jobs = allJobs().filter(
      (job) =>
        (!isQuick || QUICK_JOBS.has(jobName(job))) &&
        (context.onlyCases?.has(jobName(job)) ?? true),
    );
    const groups = jobs.map((job) => groupOf(job, servers, context));
    return Promise.resolve({ groups, rounds, skipped });
  },
  derive: addedLatency,
};
