/** How the scripts of recovery plans run, and how they end. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { runScript } from "#lib/daemon/plans/run-script.js";
import { eventually } from "../support/loopback-host.js";
import { scratchDirectory } from "../support/program.js";

const LONG_MS = 60_000;
const never = new AbortController().signal;
const directory = await scratchDirectory(t);

async function script(name: string, ...lines: readonly string[]): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, `#!/bin/sh\n${lines.join("\n")}\n`, { mode: 0o755 });
  return path;
}

const run = (path: string, timeoutMs = LONG_MS, signal = never, args: readonly string[] = []) =>
  runScript({ path, args, timeoutMs }, { TIDEMARK_PLAN: "a plan" }, signal);

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** A script with a child in the background, neither of which wants to end. */
async function stubborn(name: string): Promise<{ path: string; pids: () => Promise<number[]> }> {
  const noted = join(directory, `${name}.pids`);
  const path = await script(
    name,
    "trap '' TERM",
    "(trap '' TERM; while :; do sleep 0.05; done) &",
    `echo "$$ $!" > ${noted}.new && mv ${noted}.new ${noted}`,
    "echo begun",
    "while :; do sleep 0.05; done",
  );
  const pids = async () => (await readFile(noted, "utf8")).trim().split(" ").map(Number);
  return { path, pids };
}

async function allEnd(t: Test, pids: readonly number[]): Promise<void> {
  t.equal(pids.length, 2);
  await eventually("the end of the group", async () => !pids.some(isAlive));
}

void t.test("a script gets its arguments and the environment that it is promised", async (t) => {
  const path = await script(
    "fine",
    'echo "$1|$2|$TIDEMARK_PLAN|$PWD|$HOME"',
    "echo bad >&2",
    "exit 3",
  );
  const outcome = await run(path, LONG_MS, never, ["one word", "$two"]);
  t.match(outcome, { exitCode: 3, signal: null, isTimedOut: false, isOutputCut: false });
  t.same(outcome.output.split("\n").sort(), ["", "bad", "one word|$two|a plan|/|"]);
});

void t.test("of a long output the end is kept, in bounded memory", async (t) => {
  const path = await script("long", "seq 1 100000", "echo the end");
  const { output, isOutputCut } = await run(path);
  t.ok(isOutputCut);
  t.equal(output.length, 16 << 10);
  t.match(output, /99999\n100000\nthe end\n$/);
});

void t.test("at its time-out a script is killed with all that it has started", async (t) => {
  const { path, pids } = await stubborn("slow");
  const outcome = await run(path, 300);
  t.match(outcome, { exitCode: null, signal: "SIGKILL", isTimedOut: true, output: "begun\n" });
  await allEnd(t, await pids());
});

void t.test("so it is when its run is ended", async (t) => {
  const { path, pids } = await stubborn("stopped");
  const stopping = new AbortController();
  const running = run(path, LONG_MS, stopping.signal);
  const noted = await eventually("its processes", () => pids().catch(() => null));
  stopping.abort(new Error("stopped"));
  await t.rejects(running, { message: "stopped" });
  await allEnd(t, noted);
});

void t.test("what a script leaves behind when it ends by itself is left alone", async (t) => {
  const path = await script("starter", "sleep 30 & echo $!");
  const { exitCode, output } = await run(path);
  t.equal(exitCode, 0);
  const pid = Number(output);
  t.ok(isAlive(pid));
  process.kill(pid);
});
