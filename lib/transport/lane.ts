import { Agent } from "node:https";
import type { SegmentReceipt } from "../model/delta.js";
import type { OpenSegmentRecords, SegmentJob } from "./segment-job.js";
import { uploadSegment } from "./segment-upload.js";
import { answerThreadCalls } from "./thread-calls.js";
import { clientTls } from "./tls-settings.js";
import { endWorkerThread, enterWorkerThread } from "./worker-thread.js";
import { ZstdEncoder } from "./zstd-encoder.js";

const MAX_AGENTS = 8;
/** A kept connection that is idle longer than this is closed by us. */
const IDLE_CONNECTION_MS = 50_000;

export type LaneCall =
  | { readonly op: "send"; readonly job: SegmentJob }
  /** Cancels what is under way; the thread ends when that has let go. */
  | { readonly op: "close" };

/**
 * The body of a lane's worker thread: sends the segments that LanePool hands
 * it, several at once, over connections of its own.
 */
export function runLane(openRecords: OpenSegmentRecords): void {
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
  const send = async (job: SegmentJob, signal: AbortSignal): Promise<SegmentReceipt> => {
    const encoder = idleEncoders.pop() ?? new ZstdEncoder();
    sendingCount += 1;
    try {
      return await uploadSegment(
        job,
        { openRecords, encoder, agent: agentOf(agents, job) },
        signal,
      );
    } finally {
      idleEncoders.push(encoder);
      sendingCount -= 1;
      endWhenIdle();
    }
  };
  const cancelAll = answerThreadCalls(port, async (payload, signal) => {
    const call = payload as LaneCall;
    if (call.op === "send") return send(call.job, signal);
    closing = true;
    cancelAll();
    endWhenIdle();
    return undefined;
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
