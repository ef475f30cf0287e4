import { join } from "node:path";
import { z } from "zod";
import type { Measurement, Workload } from "../model.js";
import { nativeTool, parseLines } from "../native-tool.js";
import type { Scope } from "../scope.js";
import { makeDirectory } from "../scratch.js";

const line = z.object({
  op: z.string(),
  way: z.string(),
  iops: z.number(),
  ns_per_op: z.number(),
});

function toMeasurement(value: unknown): Measurement {
  const { op, way, iops, ns_per_op: ns } = line.parse(value);
  const isDirect = way.endsWith(" direct");
  const caseName = `4k ${op} 1x1, ${isDirect ? "direct" : "page cache"}`;
  return { caseName, subject: way.replace(/ direct$/, ""), values: { iops, meanUs: ns / 1000 } };
}

/** The program alternates between the ways by itself, in slices of a twentieth. */
export const device: Workload = {
  name: "device",
  summary: "what FileDevice costs over the bare system call, one thread at queue depth 1",
  metrics: [
    { key: "iops", title: "IOPS", better: "higher", digits: 0 },
    { key: "meanUs", title: "mean µs", better: "lower", digits: 2 },
  ],
  plan: (context) => {
    const tool = nativeTool("device_bench_tool");
    if (tool === null) {
      const skipped = ["device: its program is not built; that takes cmake and ninja"];
      return Promise.resolve({ groups: [], rounds: 0, skipped });
    }
    const { isQuick, rounds } = context.sizing;
    const run = async (scope: Scope) => {
      const directory = await makeDirectory(scope, context.directory, "device-");
      const [seconds, sizeMib] = isQuick ? ["0.1", "16"] : ["1", "128"];
      const command = [tool, join(directory, "scratch.raw"), seconds, sizeMib];
      return parseLines(await scope.run(command), toMeasurement);
    };
    return Promise.resolve({ groups: [[{ name: "ways", run }]], rounds, skipped: [] });
  },
};
