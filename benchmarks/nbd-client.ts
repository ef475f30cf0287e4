import { z } from "zod";
import { type FioJob, type LoadResult, runFio } from "./fio.js";
import { parseLines } from "./native-tool.js";
import type { Scope } from "./scope.js";

/** Who sends the requests. */
export interface NbdClient {
  /** Behind a case's name; nothing for the usual. */
  readonly caseSuffix: string;
  run(
    job: FioJob,
    place: { readonly uri: string; readonly sizeBytes: number; readonly directory: string },
    seconds: number,
    scope: Scope,
  ): Promise<LoadResult>;
}

export const FIO: NbdClient = {
  caseSuffix: "",
  run: (job, { uri, sizeBytes, directory }, seconds, scope) =>
    runFio(job, { uri }, sizeBytes, seconds, directory, scope),
};

const READ_PERCENT = { randread: 100, randwrite: 0, randrw: 50 } as const;

const line = z.object({
  requests: z.number().positive(),
  iops: z.number(),
  mean_us: z.number(),
  p50_us: z.number(),
  p99_us: z.number(),
});

export function parseLoad(text: string, blockBytes: number): LoadResult {
  const [found] = parseLines(text, (value) => line.parse(value));
  if (found === undefined) throw new Error("nbd_load_tool printed no result.");
  return {
    requestCount: found.requests,
    iops: found.iops,
    mibPerSecond: (found.iops * blockBytes) / 2 ** 20,
    meanUs: found.mean_us,
    p50Us: found.p50_us,
    p99Us: found.p99_us,
  };
}

/**
 * native/test/nbd_load_tool at `path`: 4 KiB requests by a client that takes many replies in one
 * receive and sends many requests in one send, so that the server is what is measured.
 */
export function batchingClient(path: string): NbdClient {
  return {
    caseSuffix: ", batching client",
    run: async (job, { uri }, seconds, scope) => {
      if (job.mix === "read" || job.mix === "write" || job.blockBytes !== 4096) {
        throw new Error(`The batching client has no ${job.mix} of ${job.blockBytes} bytes.`);
      }
      const load = [job.connections, job.queueDepth, READ_PERCENT[job.mix], seconds];
      return parseLoad(await scope.run([path, uri, ...load.map(String)]), job.blockBytes);
    },
  };
}
