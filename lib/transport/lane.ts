import { Agent } from "node:https";
import { parentPort } from "node:worker_threads";
import { TidemarkError } from "../model/errors.js";
import type { OpenSegmentRecords, SegmentJob } from "./segment-job.js";
import { uploadSegment } from "./segment-upload.js";
import { answerThreadCalls } from "./thread-calls.js";
import { clientTls } from "./tls-settings.js";
import { ZstdEncoder } from "./zstd-encoder.js";

const MAX_AGENTS = 8;
/** A kept connection that is idle longer than this is closed by us. */
const IDLE_CONNECTION_MS = 50_000;

/**
 * The body of a lane's worker thread: sends the segments that LanePool hands
 * it, several at once, over connections of its own.
 */
export function runLane(openRecords: OpenSegmentRecords): void {
  if (parentPort === null) {
    throw new TidemarkError("CONFLICT", "Cannot run a lane: because this is no worker thread.");
  }
  const agents = new Map<string, Agent>();
  const idleEncoders: ZstdEncoder[] = [];
  answerThreadCalls(parentPort, async (payload, signal) => {
    const job = payload as SegmentJob;
    const encoder = idleEncoders.pop() ?? new ZstdEncoder();
    try {
      return await uploadSegment(
        job,
        { openRecords, encoder, agent: agentOf(agents, job) },
        signal,
      );
    } finally {
      idleEncoders.push(encoder);
    }
  });
}

/** One for each replica and certificate; the one that was made first goes when there are many. */
function agentOf(agents: Map<string, Agent>, { origin, tls }: SegmentJob): Agent {
  const key = [origin, tls.certificatePem, tls.authorityPem].join("\n");
  const known = agents.get(key);
  if (known !== undefined) return known;
  const oldest = agents.keys().next().value;
  if (agents.size >= MAX_AGENTS && oldest !== undefined) {
    agents.get(oldest)?.destroy();
    agents.delete(oldest);
  }
  const agent = newAgent(tls);
  agents.set(key, agent);
  return agent;
}

function newAgent(tls: SegmentJob["tls"]): Agent {
  return new Agent({
    ...clientTls(tls),
    keepAlive: true,
    timeout: IDLE_CONNECTION_MS,
    // Each connection proves both identities anew.
    maxCachedSessions: 0,
  });
}
