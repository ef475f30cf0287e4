/**
 * FLUSH and FUA are true: a tracer on all threads of our server sees that no
 * reply leaves before the fdatasync (or the write with RWF_DSYNC) that it
 * promises. The order is judged from the system calls alone.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import t, { type Test } from "tap";
import { missingTool, run, scratchDirectory } from "../support/program.js";
import { orderOf, type TraceOptions, type Traced, traceServer } from "./trace/traced-server.js";

const directory = await scratchDirectory(t);
const REQUESTS = 3 * 6 * 8;

async function cannotTrace(): Promise<string | false> {
  const missing = await missingTool("strace", "cc");
  if (missing !== null) return `${missing} is not installed`;
  const { exitCode } = await run("strace", ["-o", "/dev/null", "true"]);
  return exitCode === 0 ? false : "this kernel lets nobody trace";
}

const skip = await cannotTrace();

/** A preloaded library, built where there is a compiler. */
async function shim(name: string): Promise<string> {
  const library = join(directory, `${name}.so`);
  const source = fileURLToPath(new URL(`trace/${name}.c`, import.meta.url));
  const { exitCode, stderr } = await run("cc", ["-shared", "-fPIC", "-o", library, source]);
  if (exitCode !== 0) throw new Error(stderr);
  return library;
}

async function keeps(t: Test, name: string, options: TraceOptions): Promise<Traced> {
  const traced = await traceServer(t, directory, name, options);
  const order = orderOf(traced);
  t.same(order.brokenPromises(), []);
  t.equal(order.answeredCount, REQUESTS, "every reply was seen");
  t.ok(
    order.syncCount > 3 && order.writeCount > 50,
    `${order.syncCount} syncs, ${order.writeCount} writes`,
  );
  return traced;
}

void t.test("replies to FLUSH and FUA wait for the disk", { skip }, async (t) => {
  const traced = await keeps(t, "tracked", {});

  await t.test("the check finds what a trace lacks", (t) => {
    const without = (gone: (name: string) => boolean) =>
      orderOf({ ...traced, calls: traced.calls.filter(({ name }) => !gone(name)) });
    t.ok(
      without((name) => name === "fdatasync").brokenPromises().length >= 3 * 12,
      "no sync at all",
    );
    t.end();
  });

  await t.test("the check finds a sync that ends too late", (t) => {
    const late = traced.calls.map((call) =>
      call.name === "fdatasync" ? { ...call, endedAt: call.endedAt + 1_000_000 } : call,
    );
    t.ok(orderOf({ ...traced, calls: late }).brokenPromises().length >= 3 * 12);
    t.end();
  });

  await t.test("the check finds a sync that began before the writes it should cover", (t) => {
    const early = traced.calls.map((call) =>
      call.name === "fdatasync" ? { ...call, beganAt: 0 } : call,
    );
    t.ok(orderOf({ ...traced, calls: early }).brokenPromises().length >= 3 * 6);
    t.end();
  });

  await t.test("the check finds replies that leave too early", (t) => {
    const hasty = traced.calls.map((call) =>
      /^(send|write)/.test(call.name)
        ? { ...call, beganAt: call.beganAt - 20, endedAt: call.endedAt - 20 }
        : call,
    );
    t.ok(orderOf({ ...traced, calls: hasty }).brokenPromises().length > 0);
    t.end();
  });
});

void t.test("so they do for a disk that is not tracked", { skip }, async (t) => {
  await keeps(t, "untracked", { args: ["--no-tracking"] });
});

void t.test("so they do without io_uring", { skip }, async (t) => {
  const library = await shim("no-ring");
  const { engine } = await keeps(t, "threads", { environment: { LD_PRELOAD: library } });
  t.match(engine, /threads/);
});

void t.test("a server that only believes that it has synced is found out", { skip }, async (t) => {
  const library = await shim("deaf-sync");
  const traced = await traceServer(t, directory, "deaf", { environment: { LD_PRELOAD: library } });
  const broken = orderOf(traced).brokenPromises();
  t.ok(
    broken.some((text) => text.startsWith("FLUSH")),
    "FLUSH",
  );
  t.ok(broken.length >= 3 * 12, `${broken.length} broken promises`);
});
