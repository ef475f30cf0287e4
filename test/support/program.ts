/** The `tidemark` program as its users run it: processes of their own, ended with the test. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { PLAIN_NODE } from "./plain-node.js";

const PROGRAM = fileURLToPath(new URL("../../bin/tidemark.js", import.meta.url));

/** What of a tap test the helpers need. */
export interface Teardown {
  teardown(work: () => Promise<void> | void): void;
}

export interface Outcome {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A directory of the test's own, with a path short enough for sockets. */
export async function scratchDirectory(t: Teardown): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tdm-"));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** Runs a program to its end, whatever that is. */
export async function run(
  program: string,
  args: readonly string[],
  options: { readonly input?: string } = {},
): Promise<Outcome> {
  const child = spawn(program, args, {
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` },
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.input ?? "");
  const [exitCode, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  return { exitCode, signal, stdout, stderr };
}

/** What it printed. Throws what it said when it fails. */
export async function output(program: string, ...rest: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await run(program, rest);
  if (exitCode !== 0) throw new Error(`${program} ${rest.join(" ")} failed: ${stderr}`);
  return stdout;
}

export function tidemark(...args: readonly string[]): Promise<Outcome> {
  const [program, ...rest] = PLAIN_NODE;
  return run(program, [...rest, PROGRAM, ...args]);
}

/** Programs of e2fsprogs and util-linux live in sbin, which a user's PATH may lack. */
export async function missingTool(...names: readonly string[]): Promise<string | null> {
  for (const name of names) {
    const { exitCode } = await run("sh", ["-c", `command -v ${name}`]);
    if (exitCode !== 0) return name;
  }
  return null;
}

const SETPRIV = existsSync("/usr/bin/setpriv") ? ["/usr/bin/setpriv", "--pdeathsig", "KILL"] : [];

export interface StartOptions {
  /** Shell text that is run before, in a mount namespace of the process's own; needs root. */
  readonly inMountNamespace?: string;
  /** "name:n": it dies at the n-th passage of that failpoint. */
  readonly failpoint?: string;
}

/** A `tidemark` that runs until it is told to stop. */
export class RunningProgram {
  readonly child: ChildProcess;
  stdout = "";
  stderr = "";
  readonly #closed: Promise<Outcome>;

  private constructor(child: ChildProcess) {
    this.child = child;
    child.stdout?.setEncoding("utf8").on("data", (text: string) => (this.stdout += text));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.stderr += text));
    this.#closed = once(child, "close").then((args) => {
      const [exitCode, signal] = args as [number | null, NodeJS.Signals | null];
      return { exitCode, signal, stdout: this.stdout, stderr: this.stderr };
    });
  }

  /** Resolves when its output matches; rejects with what it said when it ends before. */
  static async start(
    t: Teardown,
    args: readonly string[],
    ready: RegExp,
    options: StartOptions = {},
  ): Promise<RunningProgram> {
    const running = RunningProgram.launch(t, args, options);
    await running.waitFor(ready);
    return running;
  }

  static launch(t: Teardown, args: readonly string[], options: StartOptions = {}): RunningProgram {
    const command = [...PLAIN_NODE, PROGRAM, ...args];
    const setup = options.inMountNamespace;
    const wrapper =
      setup === undefined ? [] : ["unshare", "-m", "sh", "-ec", `${setup}\nexec "$@"`, "sh"];
    // Where it can be had: nothing outlives a test that is itself killed.
    const [program = "", ...rest] = [...wrapper, ...SETPRIV, ...command];
    const { failpoint } = options;
    const armed = failpoint === undefined ? {} : { TIDEMARK_FAILPOINT: failpoint };
    const env = { ...process.env, ...armed };
    const child = spawn(program, rest, { stdio: ["ignore", "pipe", "pipe"], env });
    const running = new RunningProgram(child);
    t.teardown(async () => {
      child.kill("SIGKILL");
      await running.ended();
    });
    return running;
  }

  get processId(): number {
    return this.child.pid ?? 0;
  }

  get isRunning(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  async waitFor(pattern: RegExp): Promise<void> {
    const matched = new Promise<void>((resolve) => {
      const look = () => {
        if (pattern.test(this.stdout)) resolve();
      };
      this.child.stdout?.on("data", look);
      look();
    });
    const over = this.#closed.then(({ exitCode, signal, stderr }) => {
      if (pattern.test(this.stdout)) return;
      throw new Error(`it ended (${exitCode ?? signal}) before ${String(pattern)}: ${stderr}`);
    });
    await Promise.race([matched, over]);
    over.catch(() => undefined);
  }

  ended(): Promise<Outcome> {
    return this.#closed;
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<Outcome> {
    this.child.kill(signal);
    return this.ended();
  }
}
