/** `npm run bench`: see docs/benchmarks.md. */
import { realpathSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { type BenchOptions, parseArguments, USAGE } from "./arguments.js";
import { type Bar, checkBar, readBars } from "./bars.js";
import { BenchError } from "./bench-error.js";
import { compareRows } from "./compare.js";
import { describeEnvironment } from "./environment.js";
import type { BenchContext, Metric, Workload } from "./model.js";
import { disturbanceNote, formatComparison, formatDerived, formatRows } from "./report.js";
import { readResults, type Results, writeResults } from "./results-file.js";
import { runWorkload } from "./runner.js";
import { Scope } from "./scope.js";
import { makeDirectory, Place } from "./scratch.js";
import { bitmap } from "./workloads/bitmap.js";
import { cuts } from "./workloads/cuts.js";
import { cycle } from "./workloads/cycle.js";
import { device } from "./workloads/device.js";
import { durability } from "./workloads/durability.js";
import { failover } from "./workloads/failover.js";
import { merge } from "./workloads/merge.js";
import { nbd, nbdBatch, nbdCold, nbdDirect, nbdTcp } from "./workloads/nbd.js";
import { pairs } from "./workloads/pairs.js";
import { service } from "./workloads/service.js";
import { tracking } from "./workloads/tracking.js";
import { unchanged } from "./workloads/unchanged.js";

const WORKLOADS: readonly Workload[] = [
  bitmap,
  device,
  nbd,
  nbdTcp,
  nbdBatch,
  nbdCold,
  nbdDirect,
  pairs,
  durability,
  cuts,
  cycle,
  unchanged,
  service,
  merge,
  failover,
  tracking,
];
const DEFAULT_WORKLOADS = [bitmap, device, nbd, durability, cuts, cycle, merge].map(
  ({ name }) => name,
);
const BARS = new URL("bars.json", import.meta.url);
const LATEST = fileURLToPath(new URL("results/latest.json", import.meta.url));

function metricOf(workload: string, key: string): Metric | undefined {
  return WORKLOADS.find(({ name }) => name === workload)?.metrics.find(
    (metric) => metric.key === key,
  );
}

/** With --workload only the bars of those. */
async function barsOf({ workloads }: BenchOptions): Promise<Bar[]> {
  const all = await readBars(BARS);
  return all.filter((bar) => workloads === null || workloads.includes(bar.workload));
}

function chooseWorkloads(options: BenchOptions, bars: readonly Bar[]): Workload[] {
  const names =
    options.workloads ??
    (options.diskPath !== null
      ? [tracking.name]
      : options.check
        ? [...new Set(bars.map((bar) => bar.workload))]
        : DEFAULT_WORKLOADS);
  return names.map((name) => {
    const found = WORKLOADS.find((workload) => workload.name === name);
    if (found !== undefined) return found;
    const known = WORKLOADS.map((workload) => workload.name).join(", ");
    throw new BenchError(`Cannot run ${name}: because there is no such workload (${known}).`);
  });
}

async function measure(
  options: BenchOptions,
  bars: readonly Bar[],
  signal: AbortSignal,
): Promise<Results> {
  const scope = new Scope(signal);
  try {
    return await measureIn(scope, options, bars);
  } finally {
    showProgress("");
    await scope.close();
  }
}

async function measureIn(
  scope: Scope,
  options: BenchOptions,
  bars: readonly Bar[],
): Promise<Results> {
  const workloads = chooseWorkloads(options, bars);
  const place = await Place.claim(scope, options.diskPath, options.destroyData);
  const { sizing, sweep } = options;
  const context: BenchContext = {
    scope,
    sizing,
    sweep,
    directory: place.directory,
    socketDirectory: await makeDirectory(scope, tmpdir()),
    scratch: () => place.scratch(sizing.scratchBytes),
    onlyCases: options.check ? new Set(bars.map((bar) => bar.case)) : null,
  };
  const environment = await describeEnvironment(realpathSync(place.directory));
  const results: Results = {
    format: "tidemark-benchmark",
    version: 1,
    environment,
    rows: [],
    derived: [],
    skipped: [],
    failed: [],
  };
  for (const workload of workloads) {
    const { rows, derived, skipped, failed } = await runWorkload(workload, context, showProgress);
    await place.forgetScratch();
    results.rows.push(...rows.map((row) => structuredClone(row) as Results["rows"][number]));
    results.derived.push(...derived);
    results.skipped.push(...skipped);
    results.failed.push(...failed);
  }
  return results;
}

function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
  else if (text !== "" && process.env["BENCH_VERBOSE"] !== undefined) console.error(text);
}

function printTables(results: Results): void {
  const { environment, rows, derived, skipped, failed } = results;
  const facts = Object.entries(environment).filter(([, value]) => value !== null);
  console.log(`${facts.map(([name, value]) => `${name} ${value}`).join(", ")}\n`);
  for (const workload of WORKLOADS) {
    const own = rows.filter((row) => row.workload === workload.name);
    if (own.length > 0) console.log(formatRows(workload, own));
  }
  if (derived.length > 0) console.log(`${formatDerived(derived)}\n`);
  const note = disturbanceNote(rows);
  if (note !== null) console.log(`${note}\n`);
  for (const line of new Set(skipped)) console.log(`skipped: ${line}`);
  for (const line of failed) console.log(`failed: ${line}`);
}

async function printComparison(results: Results, oldPath: string): Promise<void> {
  const old = await readResults(oldPath);
  const comparisons = compareRows(old.rows, results.rows, metricOf);
  console.log(`Beside ${oldPath}; BETTER and WORSE mark rows whose spreads do not touch.\n`);
  console.log(formatComparison(comparisons, metricOf));
  const names = ["kernel", "cpuModel", "cpuCount", "fileSystem"] as const;
  const other = names.filter((name) => old.environment[name] !== results.environment[name]);
  if (other.length > 0) console.log(`\nNot the same machine: ${other.join(", ")} differ.`);
}

function printCheck(results: Results, bars: readonly Bar[]): boolean {
  const checked = bars.map((bar) => checkBar(bar, results.rows, metricOf));
  for (const { text } of checked) console.log(text);
  return checked.every(({ isMet }) => isMet);
}

async function main(signal: AbortSignal): Promise<boolean> {
  const options = parseArguments(process.argv.slice(2));
  if (options.help) {
    console.log(USAGE);
    return true;
  }
  const bars = options.check ? await barsOf(options) : [];
  const results =
    options.loadPath === null
      ? await measure(options, bars, signal)
      : await readResults(options.loadPath);
  const output = options.outputPath ?? (options.sizing.isQuick ? null : LATEST);
  if (options.loadPath === null && output !== null) await writeResults(output, results);
  if (options.json) console.log(JSON.stringify(results));
  else printTables(results);
  if (options.comparePath !== null) await printComparison(results, options.comparePath);
  const barsMet = !options.check || printCheck(results, bars);
  return barsMet && results.failed.length === 0;
}

const stopping = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(name, () => stopping.abort(new BenchError("Stopped.")));
}
try {
  if (!(await main(stopping.signal))) process.exitCode = 1;
} catch (thrown) {
  const isKnown = thrown instanceof BenchError;
  console.error(isKnown ? thrown.message : thrown);
  process.exitCode = stopping.signal.aborted ? 130 : 1;
}
