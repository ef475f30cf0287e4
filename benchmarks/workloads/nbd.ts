import { type Access, WARM } from "../access.js";
import { type FioJob, jobName } from "../fio.js";
import type { BenchContext, Derived, Plan, Row, Trial, Workload } from "../model.js";
import { batchingClient, FIO, type NbdClient } from "../nbd-client.js";
import { nativeTool } from "../native-tool.js";
import { NBD_METRICS, nbdTrial, rawTrial } from "../nbd-trial.js";
import { isInstalled } from "../program.js";
import {
  installedPeers,
  type ServerKind,
  serverWithoutDisk,
  trackedServer,
  UNTRACKED,
} from "../servers.js";

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

/** What databases do: every few writes one that has to be durable. */
const FLUSHING_JOBS: readonly FioJob[] = LOADS.map((load) => ({
  mix: "randwrite",
  blockBytes: SMALL_BYTES,
  writesPerFlush: 8,
  ...load,
}));

/** One of each kind of load. */
const QUICK_JOBS: ReadonlySet<string> = new Set([
  "4k randread 1x1",
  "4k randwrite 4x32",
  "4k randwrite 1x1, a flush for 8",
  "1m read 1x8",
]);

function groupOf(
  job: FioJob,
  servers: readonly ServerKind[],
  context: BenchContext,
  access: Access,
  client: NbdClient,
): Trial[] {
  const isSerial = job.queueDepth === 1 && job.connections === 1;
  const isBare = access.cache === "warm" && job.writesPerFlush === undefined;
  const withoutDisk = isBare && !isSerial && job.blockBytes === SMALL_BYTES && serverWithoutDisk();
  const all = withoutDisk ? [...servers, withoutDisk] : servers;
  const trials = all.map((server) => nbdTrial(job, server, context, access, client));
  return isBare && access === WARM && isSerial ? [...trials, rawTrial(job, context)] : trials;
}

function fioPlan(jobs: readonly FioJob[], access: Access, context: BenchContext): Plan {
  if (!isInstalled("fio")) return { groups: [], rounds: 0, skipped: ["fio is not installed"] };
  return plan(jobs, [access], context, FIO);
}

function plan(
  jobs: readonly FioJob[],
  accesses: readonly Access[],
  context: BenchContext,
  client: NbdClient,
): Plan {
  const { peers, skipped } = installedPeers();
  const servers = [trackedServer(), UNTRACKED, ...peers];
  const { isQuick, rounds } = context.sizing;
  const groups = jobs
    .filter((job) => !isQuick || QUICK_JOBS.has(jobName(job)))
    .flatMap((job) => accesses.map((access) => groupOf(job, servers, context, access, client)))
    .filter((group) => isWanted(group, context));
  return { groups, rounds, skipped };
}

/** All trials of a group are of one case. */
function isWanted(group: readonly Trial[], { onlyCases }: BenchContext): boolean {
  return onlyCases === null || group.some(({ caseName }) => onlyCases.has(caseName ?? ""));
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

function nbdWorkload(
  name: string,
  summary: string,
  jobs: readonly FioJob[],
  access: Access,
): Workload {
  return {
    name,
    summary,
    metrics: NBD_METRICS,
    peerRatio: { metric: "iops", peers: PEER_NAMES },
    plan: (context) => Promise.resolve(fioPlan(jobs, access, context)),
    derive: addedLatency,
  };
}

export const nbd = nbdWorkload(
  "nbd",
  "NBD over a Unix socket by fio, all servers on the same file in the page cache",
  [...allJobs(), ...FLUSHING_JOBS],
  WARM,
);

const WARM_TCP: Access = { transport: "tcp", cache: "warm" };

export const nbdTcp = nbdWorkload(
  "nbd-tcp",
  "the same over TCP on loopback",
  [...allJobs(), ...FLUSHING_JOBS],
  WARM_TCP,
);

/** Where fio costs more than the servers do, it says little about them. */
export const nbdBatch: Workload = {
  name: "nbd-batch",
  summary: "4 KiB requests, the page cache warm, by a client that costs next to nothing",
  metrics: NBD_METRICS,
  peerRatio: { metric: "iops", peers: PEER_NAMES },
  plan: (context) => {
    const tool = nativeTool("nbd_load_tool");
    if (tool === null) {
      const skipped = ["nbd-batch: its client is not built; that takes cmake and ninja"];
      return Promise.resolve({ groups: [], rounds: 0, skipped });
    }
    const jobs = allJobs().filter((job) => job.blockBytes === SMALL_BYTES && job.queueDepth > 1);
    return Promise.resolve(plan(jobs, [WARM, WARM_TCP], context, batchingClient(tool)));
  },
};

export const nbdCold = nbdWorkload(
  "nbd-cold",
  "the same over a Unix socket, with nothing of the file in the page cache at first",
  allJobs(),
  { transport: "unix", cache: "cold" },
);

export const nbdDirect = nbdWorkload(
  "nbd-direct",
  "the same over a Unix socket, past the page cache (cache=none on all sides)",
  allJobs(),
  { transport: "unix", cache: "direct" },
);
