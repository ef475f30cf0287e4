import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { z } from "zod";
import { BenchError } from "./bench-error.js";

const summary = z.object({
  median: z.number(),
  min: z.number(),
  max: z.number(),
  samples: z.array(z.number()),
});

const results = z.object({
  format: z.literal("tidemark-benchmark"),
  version: z.literal(1),
  environment: z.record(z.string(), z.union([z.string(), z.number(), z.null()])),
  rows: z.array(
    z.object({
      workload: z.string(),
      caseName: z.string(),
      subject: z.string(),
      metrics: z.record(z.string(), summary),
      othersCpuPercent: z.number(),
    }),
  ),
  derived: z.array(z.object({ name: z.string(), value: z.number(), unit: z.string() })),
  skipped: z.array(z.string()),
  failed: z.array(z.string()),
});

export type Results = z.infer<typeof results>;

export async function readResults(path: string): Promise<Results> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (thrown) {
    throw new BenchError(`Cannot read ${path}: because ${String((thrown as Error).message)}.`);
  }
  try {
    return results.parse(JSON.parse(text));
  } catch {
    throw new BenchError(`Cannot use ${path}: because it is no result of this benchmark.`);
  }
}

export async function writeResults(path: string, value: Results): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, `${JSON.stringify(value, null, 1)}\n`);
}
