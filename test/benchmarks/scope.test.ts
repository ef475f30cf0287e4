import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { cpuSecondsOf, othersCpuPercent } from "../../benchmarks/cpu-time.js";
import { Scope } from "../../benchmarks/scope.js";
import { makeDirectory, Place } from "../../benchmarks/scratch.js";

function isRunning(processId: number): boolean {
  return existsSync(`/proc/${processId}`);
}

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), "bench-scope-"));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

void t.test("closing a scope stops its programs and removes its files, last first", async (t) => {
  const scope = new Scope(new AbortController().signal);
  const order: string[] = [];
  scope.onClose(async () => void order.push("first"));
  const directory = await makeDirectory(scope, folder(t));
  const program = scope.start(["sleep", "60"]);
  scope.onClose(async () => void order.push("last"));
  t.ok(isRunning(program.pid));
  await scope.close();
  t.notOk(isRunning(program.pid));
  t.notOk(existsSync(directory));
  t.same(order, ["last", "first"]);
});

void t.test("an abort stops a program at once, and nothing starts after it", async (t) => {
  const stopping = new AbortController();
  const scope = new Scope(stopping.signal);
  const ended = scope.run(["sleep", "60"]);
  stopping.abort(new Error("Stopped."));
  await t.rejects(ended);
  t.throws(() => scope.start(["sleep", "60"]), /Stopped/);
  await scope.close();
});

void t.test("a program that fails says how and what it said", async (t) => {
  const scope = new Scope(new AbortController().signal);
  await t.rejects(scope.run(["sh", "-c", "echo no luck >&2; exit 3"]), /status 3.*no luck/);
  await t.rejects(scope.run(["/no/such/program"]), /Cannot run \/no\/such\/program/);
  await scope.close();
});

void t.test("a scratch file is made on the storage that is named, and removed", async (t) => {
  const parent = folder(t);
  for (const name of [parent, join(parent, "new")]) {
    const scope = new Scope(new AbortController().signal);
    const place = await Place.claim(scope, name, false);
    const { path, sizeBytes } = await place.scratch(1 << 20);
    t.ok(path.startsWith(parent));
    t.equal(sizeBytes, 1 << 20);
    await scope.close();
    t.same(readdirSync(parent), []);
  }
});

void t.test("an existing file is refused without --destroy-data, and kept", async (t) => {
  const path = join(folder(t), "precious");
  writeFileSync(path, "data");
  const scope = new Scope(new AbortController().signal);
  await t.rejects(Place.claim(scope, path, false), /would be lost/);
  await t.rejects(Place.claim(scope, join(path, "below"), false), /no directory/);
  await scope.close();
  t.ok(existsSync(path));
});

void t.test("others' share is what was busy beyond our own time", async (t) => {
  const before = { wallSeconds: 0, busySeconds: 100, ownSeconds: 10 };
  const after = { wallSeconds: 2, busySeconds: 103, ownSeconds: 12 };
  t.equal(othersCpuPercent(before, after, 2), 25);
  t.equal(othersCpuPercent(before, before, 2), 0);
  t.ok((await cpuSecondsOf(process.pid)) > 0);
});
