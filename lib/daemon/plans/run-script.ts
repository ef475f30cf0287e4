import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { ProcessGroup } from "../../hypervisor/process-group.js";
import { TidemarkError } from "../../model/errors.js";
import type { ScriptOutcome } from "../../model/plan-run.js";
import type { PlanScript } from "../../model/recovery-plan.js";
import { OutputTail } from "./output-tail.js";

/** Between the request to end and the end. */
const GRACE_MS = 2000;
/** For what is still in the pipes of a script that has ended. */
const DRAIN_MS = 200;
const SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Runs a script as the leader of a process group, without a shell, with nothing of the
 * service's environment. At its time-out, or when the signal aborts, the whole group is
 * told to end and then killed. Rejects with the signal's reason when it aborts.
 */
export async function runScript(
  { path, args, timeoutMs }: PlanScript,
  environment: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<ScriptOutcome> {
  signal.throwIfAborted();
  const child = spawn(path, [...args], {
    cwd: "/",
    detached: true,
    env: { PATH: SEARCH_PATH, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = new OutputTail();
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => output.add(chunk));
  }
  const closed = once(child, "close").catch(() => undefined);
  const exited = exitOf(child, path);
  const timeout = AbortSignal.timeout(timeoutMs);
  await endedOrAborted(exited, AbortSignal.any([timeout, signal]));
  const isTimedOut = timeout.aborted && child.exitCode === null && child.signalCode === null;
  if (isTimedOut || signal.aborted) await killGroup(child, exited);
  const { exitCode, signalName } = await exited;
  await Promise.race([closed, sleep(DRAIN_MS)]);
  child.stdout.destroy();
  child.stderr.destroy();
  signal.throwIfAborted();
  return { exitCode, signal: signalName, isTimedOut, ...output.taken() };
}

interface Exit {
  readonly exitCode: number | null;
  readonly signalName: string | null;
}

async function exitOf(child: ChildProcess, path: string): Promise<Exit> {
  try {
    const [exitCode, signalName] = (await once(child, "exit")) as [number | null, string | null];
    return { exitCode, signalName };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new TidemarkError("IO_ERROR", `Cannot run ${path}: because ${why}.`, { cause });
  }
}

async function endedOrAborted(exited: Promise<Exit>, signal: AbortSignal): Promise<void> {
  const ended = new AbortController();
  const aborted = once(signal, "abort", { signal: ended.signal }).catch(() => undefined);
  await Promise.race([exited, signal.aborted ? undefined : aborted]).finally(() => ended.abort());
}

/** Also what the leader has left behind. */
async function killGroup({ pid }: ChildProcess, exited: Promise<Exit>): Promise<void> {
  if (pid === undefined) return;
  const group = new ProcessGroup(pid);
  group.kill("SIGTERM");
  await Promise.race([exited, sleep(GRACE_MS)]);
  group.kill();
}
