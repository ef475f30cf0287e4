/** The conformance suite against our own server, in a process of its own. */
import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { RunningProgram, run, scratchDirectory } from "../support/program.js";
import { ALL_CHECKS } from "./conformance/all-checks.js";
import { runChecks } from "./conformance/suite.js";
import { Target } from "./conformance/target.js";
import { tlsTarget } from "./tls-target.js";

const SIZE_BYTES = 64 << 20;
/** A million requests in all: four targets, four loads each. */
const isSoak = process.env["TIDEMARK_SOAK"] === "1";
const SETTINGS = { seed: 1, operations: isSoak ? 62_500 : 400 };
if (isSoak) t.setTimeout(0);
const directory = await scratchDirectory(t);
let diskCount = 0;

async function served(...args: readonly string[]): Promise<Target> {
  diskCount += 1;
  const path = join(directory, `disk-${diskCount}.raw`);
  await writeFile(path, "");
  await truncate(path, SIZE_BYTES);
  const socket = join(directory, `disk-${diskCount}.sock`);
  const where = args.includes("--listen") ? [] : ["--socket", socket];
  const track = ["track", "--disk", path, ...where, ...args];
  const running = await RunningProgram.start(t, track, /Ctrl-C/);
  return Target.of(/ at (nbd\S+)/.exec(running.stdout)?.[1] ?? "");
}

/** A file system reports what is reserved and not yet written as a hole. */
const KNOWN_DEVIATIONS = ["write-zeroes-no-hole"];

async function passes(t: Test, target: Target): Promise<void> {
  for (const result of await runChecks(target, ALL_CHECKS, SETTINGS)) {
    const { name, about, verdict, reason, findings } = result;
    const isKnown = verdict === "deviates" && KNOWN_DEVIATIONS.includes(name);
    const isFine = isKnown || verdict === "passed" || verdict === "not offered";
    const said = findings.map(({ severity, text }) => `${severity}: ${text}`).join("\n");
    t.ok(isFine, `${name}: ${about} (${reason ?? verdict}) ${said}`);
  }
}

void t.test("a tracked disk over a Unix socket conforms", async (t) => {
  await passes(t, await served());
});

void t.test("a tracked disk over TCP conforms", async (t) => {
  await passes(t, await served("--listen", "127.0.0.1:0"));
});

void t.test("a disk that is not tracked conforms", async (t) => {
  await passes(t, await served("--no-tracking"));
});

void t.test("a disk in memory conforms, over TLS", async (t) => {
  await passes(t, await tlsTarget(t, directory, SIZE_BYTES));
});

const suite = ["--import", "tsx", new URL("conformance/main.ts", import.meta.url).pathname];

void t.test("the tool refuses a target that holds data, and says what it found", async (t) => {
  const { uri } = await served();
  const tool = (...args: readonly string[]) => run(process.execPath, [...suite, ...args]);
  const first = await tool("--only", "read-write-last,info-block", uri);
  t.same([first.exitCode, first.stderr], [0, ""]);
  t.match(first.stdout, /2 passed/);
  const refused = await tool("--only", "read-write-last", uri);
  t.equal(refused.exitCode, 2);
  t.match(refused.stderr, /holds data/);
  const forced = await tool(
    "--destroy-data",
    "--json",
    "--only",
    "read-write-last,tls-starttls",
    uri,
  );
  t.equal(forced.exitCode, 0);
  const { results } = JSON.parse(forced.stdout) as { results: { name: string; verdict: string }[] };
  t.same(
    results.map(({ verdict }) => verdict),
    ["not offered", "not offered", "passed"],
  );
});

void t.test("the tool runs on a plain file, and refuses one that holds data", async (t) => {
  const path = join(directory, "scratch.raw");
  await writeFile(path, "");
  await truncate(path, 4 << 20);
  const first = await run(process.execPath, [...suite, path]);
  t.equal(first.exitCode, 0, first.stdout + first.stderr);
  t.match(first.stdout, /not of devices/);
  const second = await run(process.execPath, [...suite, path]);
  t.equal(second.exitCode, 2);
  t.match(second.stderr, /holds data/);
});

void t.test("the tool says what is wrong with how it is called", async (t) => {
  for (const args of [
    [],
    ["nbd://a", "nbd://b"],
    ["--seed", "x", "nbd://127.0.0.1:1"],
    ["--nonsense"],
  ]) {
    const { exitCode, stderr } = await run(process.execPath, [...suite, ...args]);
    t.equal(exitCode, 2);
    t.not(stderr, "");
  }
  const { exitCode, stdout } = await run(process.execPath, [...suite, "--list"]);
  t.equal(exitCode, 0);
  t.ok(ALL_CHECKS.every(({ name }) => stdout.includes(name)));
});
