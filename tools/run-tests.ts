/**
 * Runs the checks and tests and closes with one line, "N passed, N failed". Each step is a
 * program; its output is shown when it fails, and its own tests are counted where it prints
 * a count. What waits more than it computes runs beside something else.
 */
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";

interface Counts {
  passed: number;
  failed: number;
  skipped: string[];
}

interface Step {
  readonly name: string;
  readonly command: readonly string[];
  readonly count?: (output: string) => Counts;
}

/** Steps that may run at the same time, and how many do. */
interface Phase {
  readonly jobs: number;
  readonly steps: readonly Step[];
}

const isQuick = process.argv.includes("--quick");
const filter = process.argv.slice(2).find((argument) => !argument.startsWith("--"));
const NATIVE_BUILD = "build-native";
const SLOW_FILE_SECONDS = 20;
const CPUS = availableParallelism();

/** TAP of any depth: counts the tests of each file, not their single assertions. */
function countTap(output: string): Counts {
  const counts: Counts = { passed: 0, failed: 0, skipped: [] };
  for (const line of output.split("\n")) {
    const match = /^(?: {4})?(not )?ok \d+(?: - (.*))?$/.exec(line);
    if (match === null || / # time=.*\{$/.test(line)) continue;
    const isFile = !line.startsWith(" ") && /\.test\.ts/.test(line);
    if (isFile && match[1] === undefined) continue;
    const skip = /# SKIP ?(.*)$/i.exec(line);
    if (skip !== null) counts.skipped.push(`${match[2] ?? ""}`);
    else if (match[1] === undefined) counts.passed += 1;
    else counts.failed += 1;
  }
  return counts;
}

/** Of a step's test files: where the time goes that a whole run has to keep to. */
function slowestFiles(output: string): string {
  const files = [...output.matchAll(/^(?:not )?ok \d+ - (\S+\.test\.ts) # time=([\d.]+)ms/gm)]
    .map(([, file = "", time]) => ({ file, seconds: Number(time) / 1000 }))
    .filter(({ seconds }) => seconds >= SLOW_FILE_SECONDS)
    .sort((a, b) => b.seconds - a.seconds);
  return files.map(({ file, seconds }) => `${file} ${seconds.toFixed(0)} s`).join(", ");
}

function countDoctest(output: string): Counts {
  const match = /test cases: +\d+ \| +(\d+) passed \| +(\d+) failed/.exec(output);
  return { passed: Number(match?.[1] ?? 0), failed: Number(match?.[2] ?? 0), skipped: [] };
}

const COMPILE: Step = {
  name: "types",
  command: ["node", "--import", "tsx", "tools/compile-tests.ts"],
};

const CHECKS: readonly Step[] = [
  { name: "format", command: ["node_modules/.bin/biome", "format", "."] },
  {
    name: "lint",
    command: [
      "node_modules/.bin/oxlint",
      "--type-aware",
      "--deny-warnings",
      "lib",
      "test",
      "benchmarks",
      "tools",
    ],
  },
  COMPILE,
  { name: "tidy", command: ["node", "--import", "tsx", "tools/tidy/tidy.ts"] },
];

function nativeSteps(): Step[] {
  return readdirSync("native/test")
    .filter((file) => file.endsWith("_test.cc"))
    .map((file) => file.replace(/\.cc$/, ""))
    .map((test) => ({
      name: `native ${test}`,
      command: [join(NATIVE_BUILD, test)],
      count: countDoctest,
    }));
}

/** Seeded, a short run; the long ones are tools/fuzz. */
function fuzzSteps(): Step[] {
  return readdirSync("native/fuzz")
    .filter((file) => file.endsWith("_fuzz.cc"))
    .map((file) => file.replace(/\.cc$/, ""))
    .map((target) => ({
      name: `native ${target}`,
      command: [join(NATIVE_BUILD, `${target}_run`), join("native/fuzz/corpus", target)],
    }));
}

function scriptSteps(): Step[] {
  const folder = "test/native";
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((file) => file.endsWith(".sh"))
    .map((file) => ({
      name: `${folder}/${file}`,
      command: ["bash", join(folder, file)],
      count: countTap,
    }));
}

function testFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".test.ts"))
    .map((file) => join(folder, file))
    .filter((file) => filter === undefined || file.includes(filter))
    .sort();
}

function tapStep(name: string, files: readonly string[], jobs: number): Step {
  return {
    name,
    command: ["node", "--import", "tsx", "tools/run-test-files.ts", `--jobs=${jobs}`, ...files],
    count: countTap,
  };
}

function oneByOne(...steps: readonly Step[]): Phase {
  return { jobs: 1, steps };
}

function phases(): Phase[] {
  const all = testFiles("test");
  const of = (folder: string) => all.filter((file) => file.startsWith(`test/${folder}/`));
  const [nbd, system, guest] = [of("nbd"), of("system"), of("guest")];
  const rest = new Set([...nbd, ...system, ...guest]);
  const unit = all.filter((file) => !rest.has(file));
  if (filter !== undefined)
    return [oneByOne(COMPILE, tapStep(`tests matching ${filter}`, all, CPUS))];
  if (isQuick) return [oneByOne(...CHECKS, tapStep("unit tests", unit, CPUS))];
  const nativeBuild = { name: "native build", command: ["tools/native-tests"] };
  return [
    oneByOne(...CHECKS, nativeBuild),
    // The longest first.
    { jobs: CPUS, steps: [...fuzzSteps(), ...nativeSteps()] },
    oneByOne(...scriptSteps(), tapStep("unit tests", unit, CPUS), tapStep("NBD tests", nbd, CPUS)),
    // A guest is one busy processor; the system tests mostly wait.
    {
      jobs: 2,
      steps: [tapStep("guest tests", guest, 1), tapStep("system tests", system, CPUS)],
    },
  ];
}

function run(step: Step): Promise<{ readonly exitCode: number; readonly output: string }> {
  return new Promise((resolve) => {
    const [program = "", ...rest] = step.command;
    const child = spawn(program, rest, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const take = (chunk: Buffer) => {
      output += chunk.toString("utf8");
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    child.once("error", (error) => resolve({ exitCode: 1, output: String(error) }));
    child.once("close", (code) => resolve({ exitCode: code ?? 1, output }));
  });
}

const LINES_BEFORE = 25;
const LINES_AFTER = 40;

/** What is around each failed test, or around what else looks like a failure. */
function failuresOf(output: string): string {
  const lines = output.split("\n");
  const near = (pattern: RegExp) => {
    const at = lines.flatMap((line, index) => (pattern.test(line) ? [index] : []));
    const isNear = (index: number) =>
      at.some((found) => index >= found - LINES_BEFORE && index <= found + LINES_AFTER);
    return lines.filter((_line, index) => isNear(index));
  };
  const failed = near(/^ *not ok /);
  const relevant = failed.length > 0 ? failed : near(/[Ee]rror|FATAL|FAILED|CHECK|REQUIRE/);
  return (relevant.length === 0 ? lines : relevant).slice(0, 400).join("\n");
}

const total: Counts = { passed: 0, failed: 0, skipped: [] };

async function runAndReport(step: Step): Promise<void> {
  const startedAtMs = Date.now();
  const { exitCode, output } = await run(step);
  const counts = step.count?.(output) ?? { passed: 0, failed: 0, skipped: [] };
  if (counts.passed + counts.failed === 0) counts.passed = exitCode === 0 ? 1 : 0;
  if (exitCode !== 0 && counts.failed === 0) counts.failed = 1;
  total.passed += counts.passed;
  total.failed += counts.failed;
  total.skipped.push(...counts.skipped);
  const verdict = counts.failed === 0 ? "ok" : "FAILED";
  const seconds = ((Date.now() - startedAtMs) / 1000).toFixed(1);
  console.log(
    `${verdict.padEnd(6)} ${step.name}: ${counts.passed} passed, ${counts.failed} failed (${seconds} s)`,
  );
  const slowest = slowestFiles(output);
  if (slowest !== "") console.log(`       ${slowest}`);
  if (counts.failed > 0) console.log(failuresOf(output));
}

async function runPhase({ jobs, steps }: Phase): Promise<void> {
  const waiting = [...steps];
  const work = async (): Promise<void> => {
    for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) {
      await runAndReport(step);
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
}

for (const phase of phases()) await runPhase(phase);

for (const skipped of total.skipped) console.log(`skipped: ${skipped}`);
if (process.env["CI"] !== undefined && total.skipped.length > 0) {
  console.log("In CI nothing may skip.");
  total.failed += total.skipped.length;
  total.skipped = [];
}
const tail = total.skipped.length > 0 ? `, ${total.skipped.length} skipped` : "";
console.log(`${total.passed} passed, ${total.failed} failed${tail}`);
process.exitCode = total.failed === 0 ? 0 : 1;
