import type { Agent } from "node:https";
import type { NewSegmentDigest } from "../model/segment-digest.js";
import { newReplicaAgent } from "./replica-agent.js";
import type { OpenSegmentRecords, ProbeJob, SegmentJob } from "./segment-job.js";
import type { SentSegment } from "./segment-sender.js";
import { uploadSegment } from "./segment-upload.js";
import { answerThreadCalls } from "./thread-calls.js";
import { endWorkerThread, enterWorkerThread } from "./worker-thread.js";
import { ZstdEncoder } from "./zstd-encoder.js";

const MAX_AGENTS = 8;
/** A kept connection that is idle longer than this is closed by us. */
const IDLE_CONNECTION_MS = 50_000;

export type LaneCall =
  | { readonly op: "send"; readonly job: SegmentJob }
  | { readonly op: "probe"; readonly job: ProbeJob }
  /** Cancels what is under way; the thread ends when that has let go. */
  | { readonly op: "close" };

/**
 * The body of a lane's worker thread: sends the segments that LanePool hands
 * it, several at once, over connections of its own.
 */
export function runLane(openCaptured: OpenSegmentRecords, newDigest: NewSegmentDigest): void {
  const port = enterWorkerThread();
  const agents = new Map<string, Agent>();
  const idleEncoders: ZstdEncoder[] = [];
  let sendingCount = 0;
  let closing = false;

  const endWhenIdle = (): void => {
    if (!closing || sendingCount > 0) return;
    for (const agent of agents.values()) agent.destroy();
    endWorkerThread(0);
  };
  const send = async (
    job: SegmentJob,
    openRecords: OpenSegmentRecords,
    signal: AbortSignal,
  ): Promise<SentSegment> => {
    const encoder = idleEncoders.pop() ?? new ZstdEncoder();
    sendingCount += 1;
    try {
      const tools = { openRecords, newDigest, encoder, agent: agentOf(agents, job) };
      return await uploadSegment(job, tools, signal);
    } finally {
      idleEncoders.push(encoder);
      sendingCount -= 1;
      endWhenIdle();
    }
  };
  const cancelAll = answerThreadCalls(port, async (payload, signal) => {
    const call = payload as LaneCall;
    if (call.op === "send") return send(call.job, openCaptured, signal);
    if (call.op === "probe") return send(call.job, () => piecesOf(call.job), signal);
    closing = true;
    cancelAll();
    endWhenIdle();
    return undefined;
  });
}

/** One for each replica and certificate; the one that was made first goes when there are many. */
function agentOf(agents: Map<string, Agent>, { origin, tls, proxyUrl }: SegmentJob): Agent {
  const key = [origin, proxyUrl, tls.certificatePem, tls.authorityPem].join("\n");
  const known = agents.get(key);
  if (known !== undefined) return known;
  const oldest = agents.keys().next().value;
  if (agents.size >= MAX_AGENTS && oldest !== undefined) {
    agents.get(oldest)?.destroy();
    agents.delete(oldest);
  }
  const agent = newReplicaAgent(tls, proxyUrl, { timeout: IDLE_CONNECTION_MS });
  agents.set(key, agent);
  return agent;
}

async function* piecesOf({ pieces }: ProbeJob): AsyncGenerator<Uint8Array> {
  yield* pieces;
}
