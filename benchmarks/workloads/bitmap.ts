import { z } from "zod";
import type { Measurement, Workload } from "../model.js";
import { nativeTool, parseLines } from "../native-tool.js";

const line = z.union([
  z.object({
    bench: z.literal("bitmap_mark_dirty"),
    pattern: z.string(),
    threads: z.number(),
    ns_per_mark: z.number(),
  }),
  z.object({
    bench: z.literal("bitmap_scan_1PiB"),
    content: z.string(),
    microseconds: z.number(),
  }),
]);

function toMeasurement(value: unknown): Measurement {
  const found = line.parse(value);
  const subject = "tidemark";
  if (found.bench === "bitmap_scan_1PiB") {
    const caseName = `scan of 1 PiB, ${found.content.replaceAll("_", " ")}`;
    return { caseName, subject, values: { scanUs: found.microseconds } };
  }
  const caseName = `mark dirty ${found.pattern.replaceAll("_", " ")}, threads ${found.threads}`;
  return { caseName, subject, values: { markNs: found.ns_per_mark } };
}

export const bitmap: Workload = {
  name: "bitmap",
  summary: "marking blocks that are dirty (CPU time of the slowest thread); scanning a bitmap",
  metrics: [
    { key: "markNs", title: "ns/mark", better: "lower", digits: 2 },
    { key: "scanUs", title: "scan µs", better: "lower", digits: 1 },
  ],
  plan: (context) => {
    const tool = nativeTool("bitmap_bench_tool");
    if (tool === null) {
      const skipped = ["bitmap: its program is not built; that takes cmake and ninja"];
      return Promise.resolve({ groups: [], rounds: 0, skipped });
    }
    const trial = {
      name: "mark and scan",
      run: async (scope: typeof context.scope) =>
        parseLines(await scope.run([tool, context.directory]), toMeasurement),
    };
    return Promise.resolve({ groups: [[trial]], rounds: context.sizing.rounds, skipped: [] });
  },
};
