import { readFile } from "node:fs/promises";
import { z } from "zod";
import { BenchError } from "./bench-error.js";
import type { Metric, Row } from "./model.js";
import { bestOf } from "./statistics.js";

const bar = z
  .strictObject({
    name: z.string(),
    workload: z.string(),
    case: z.string(),
    subject: z.string(),
    metric: z.string(),
    /** The value is divided by the best of these subjects. */
    beside: z.array(z.string()).min(1).optional(),
    /** The value is divided by the worst of these subjects. */
    besideWorst: z.array(z.string()).min(1).optional(),
    atLeast: z.number().optional(),
    atMost: z.number().optional(),
  })
  .refine((value) => value.atLeast !== undefined || value.atMost !== undefined, {
    message: "a bar needs atLeast or atMost",
  });

const OPPOSITE = { higher: "lower", lower: "higher" } as const;

export type Bar = z.infer<typeof bar>;

export interface BarResult {
  readonly bar: Bar;
  readonly isMet: boolean;
  /** One line, with what was measured. */
  readonly text: string;
}

export async function readBars(path: URL): Promise<Bar[]> {
  const parsed = z.array(bar).safeParse(JSON.parse(await readFile(path, "utf8")));
  if (parsed.success) return parsed.data;
  throw new BenchError(`Cannot use ${path.pathname}: because ${parsed.error.issues[0]?.message}.`);
}

/** A bar whose row is missing is not met: what was not measured is not known to hold. */
export function checkBar(
  value: Bar,
  rows: readonly Row[],
  metricOf: (workload: string, key: string) => Metric | undefined,
): BarResult {
  const rowsOfWorkload = rows.filter((row) => row.workload === value.workload);
  const row = rowsOfWorkload.find(
    (candidate) => candidate.caseName === value.case && candidate.subject === value.subject,
  );
  const own = row?.metrics[value.metric]?.median;
  if (own === undefined) return notMet(value, "its row was not measured");
  const peers = value.beside ?? value.besideWorst;
  if (peers === undefined) return judge(value, own, "");
  const better = metricOf(value.workload, value.metric)?.better ?? "higher";
  const sought = value.beside === undefined ? OPPOSITE[better] : better;
  const peer = bestOf(rowsOfWorkload, value.case, peers, value.metric, sought);
  if (peer === null) return notMet(value, `none of ${peers.join(", ")} was measured`);
  return judge(value, own / peer.value, `x of ${peer.subject}`);
}

function judge(value: Bar, measured: number, unit: string): BarResult {
  const isMet =
    measured >= (value.atLeast ?? Number.NEGATIVE_INFINITY) &&
    measured <= (value.atMost ?? Number.POSITIVE_INFINITY);
  const bounds = [
    ...(value.atLeast === undefined ? [] : [`at least ${value.atLeast}`]),
    ...(value.atMost === undefined ? [] : [`at most ${value.atMost}`]),
  ].join(", ");
  const text = `${isMet ? "met    " : "NOT MET"} ${value.name}: ${measured.toFixed(2)}${unit} (${bounds}); ${place(value)}`;
  return { bar: value, isMet, text };
}

function notMet(value: Bar, why: string): BarResult {
  return { bar: value, isMet: false, text: `NOT MET ${value.name}: ${why}; ${place(value)}` };
}

function place(value: Bar): string {
  return `${value.workload} / ${value.case} / ${value.subject} / ${value.metric}`;
}
