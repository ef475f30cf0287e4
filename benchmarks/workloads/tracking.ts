import type { FioJob } from "../fio.js";
import type { Sweep, Workload } from "../model.js";
import { NBD_METRICS, nbdTrial } from "../nbd-trial.js";
import { isInstalled } from "../program.js";
import { installedPeers, trackedServer, UNTRACKED } from "../servers.js";

function jobsOf({ mixes, blockSizes, queueDepths, connections }: Sweep): FioJob[] {
  return mixes.flatMap((mix) =>
    blockSizes.flatMap((blockBytes) =>
      queueDepths.flatMap((queueDepth) =>
        connections.map((count) => ({ mix, blockBytes, queueDepth, connections: count })),
      ),
    ),
  );
}

/** `--disk PATH`: what tracking costs on this storage, at each granularity, beside no tracking. */
export const tracking: Workload = {
  name: "tracking",
  summary: "change tracking on the storage named by --disk, beside the same without it",
  metrics: NBD_METRICS,
  peerRatio: { metric: "iops", peers: [UNTRACKED.subject] },
  plan: (context) => {
    if (!isInstalled("fio")) {
      return Promise.resolve({
        groups: [],
        rounds: 0,
        skipped: ["tracking: fio is not installed"],
      });
    }
    const { peers, skipped } = installedPeers();
    const tracked = context.sweep.granularities.map((bytes) => trackedServer(bytes));
    const servers = [...tracked, UNTRACKED, ...peers];
    const groups = jobsOf(context.sweep).map((job) =>
      servers.map((server) => nbdTrial(job, server, context)),
    );
    return Promise.resolve({ groups, rounds: context.sizing.rounds, skipped });
  },
};
