/**
 * Runs test files, each in a process of its own, and prints TAP with one result a file
 * as each ends: node --import tsx tools/run-test-files.ts [--jobs=N] FILE...
 *
 * The files run as tools/compile-tests.ts left them, without tap's runner: its hooks and
 * a loader would be in each test's process and its children, and cost more than most tests.
 */
import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { compiledPath } from "./compiled-path.js";

const LIMIT_SECONDS = 600;
const NODE_OPTIONS = ["--import=./test/support/without-domains.mjs"];

interface Outcome {
  readonly isOk: boolean;
  readonly output: string;
}

function runFile(file: string): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [...NODE_OPTIONS, compiledPath(file)], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, TAP_TIMEOUT: `${LIMIT_SECONDS}` },
    });
    let output = "";
    const take = (chunk: string) => {
      output += chunk;
    };
    child.stdout.setEncoding("utf8").on("data", take);
    child.stderr.setEncoding("utf8").on("data", take);
    const end = (isOk: boolean, reason: string) => {
      clearTimeout(timer);
      resolve({ isOk, output: output + reason });
    };
    // After tap's own limit, which says what was running.
    const timer = setTimeout(() => child.kill("SIGKILL"), (LIMIT_SECONDS + 30) * 1000);
    child.once("error", (error) => end(false, `${error}\n`));
    child.once("close", (code, signal) =>
      end(code === 0, code === 0 ? "" : `# ended with ${signal ?? code}\n`),
    );
  });
}

async function report(file: string, number: number): Promise<boolean> {
  const startedAtMs = Date.now();
  const { isOk, output } = await runFile(file);
  const indented = `${output.trimEnd()}\n`.replaceAll(/^(?=.)/gm, "    ");
  const verdict = isOk ? "ok" : "not ok";
  const time = `# time=${Date.now() - startedAtMs}ms`;
  process.stdout.write(`# Subtest: ${file}\n${indented}${verdict} ${number} - ${file} ${time}\n\n`);
  return isOk;
}

const files = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
const jobs = process.argv.find((argument) => argument.startsWith("--jobs="))?.slice(7);
const waiting = files.map((file, index) => ({ file, number: index + 1 }));

async function work(): Promise<void> {
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
    if (!(await report(next.file, next.number))) process.exitCode = 1;
  }
}

process.stdout.write(`TAP version 14\n1..${files.length}\n`);
await Promise.all(Array.from({ length: Number(jobs ?? availableParallelism()) }, work));
