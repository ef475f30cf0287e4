import { type ChildProcess, spawn } from "node:child_process";
import { TidemarkError } from "../model/errors.js";
import { orAborted } from "../model/or-aborted.js";
import { ProcessGroup } from "./process-group.js";

export interface ScriptCall {
  readonly path: string;
  readonly args: readonly string[];
  readonly variables: Readonly<Record<string, string>>;
  /** As in "freeze the applications of web". */
  readonly purpose: string;
}

interface Outcome {
  readonly exitCode: number | null;
  readonly killedBy: string | null;
}

/** What scripts may know of the service's surroundings. */
const INHERITED = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ"];
const KEPT_CHARACTERS = 2000;

/** A script on its way, in a process group of its own. */
export class ScriptRun {
  readonly group: ProcessGroup;
  readonly #call: ScriptCall;
  readonly #child: ChildProcess;
  readonly #exited: Promise<Outcome>;
  #stderr = "";

  private constructor(call: ScriptCall, child: ChildProcess, groupId: number) {
    this.#call = call;
    this.#child = child;
    this.group = new ProcessGroup(groupId);
    this.#exited = new Promise((resolve) => {
      child.once("exit", (exitCode, killedBy) => resolve({ exitCode, killedBy }));
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString()).slice(-KEPT_CHARACTERS);
    });
  }

  static async start(call: ScriptCall): Promise<ScriptRun> {
    const child = spawn(call.path, call.args, {
      detached: true,
      cwd: "/",
      env: { ...inherited(), ...call.variables },
      stdio: ["ignore", "ignore", "pipe"],
    });
    const { pid } = child;
    if (pid !== undefined) return new ScriptRun(call, child, pid);
    const cause = await new Promise<Error>((resolve) => child.once("error", resolve));
    throw failed(call, cause.message, cause);
  }

  /**
   * Until it has ended well. What it leaves running is its own matter then; whatever else
   * happens ends all of it, and rejects.
   */
  async finish(signal: AbortSignal): Promise<void> {
    try {
      const { exitCode, killedBy } = await orAborted(this.#exited, signal);
      if (exitCode === 0) return;
      this.group.kill();
      const how = killedBy === null ? `status ${exitCode}` : `signal ${killedBy}`;
      throw failed(this.#call, `${this.#call.path} ended with ${how}${await this.#said()}`);
    } catch (thrown) {
      this.group.kill();
      throw thrown;
    } finally {
      this.#child.stderr?.destroy();
    }
  }

  /** The last line. */
  async #said(): Promise<string> {
    const { stderr } = this.#child;
    const isOpen = stderr !== null && !stderr.readableEnded;
    // Nobody writes to it any more.
    if (isOpen) await new Promise((resolve) => stderr.once("close", resolve));
    const line = this.#stderr.trim().split("\n").at(-1) ?? "";
    return line === "" ? "" : ` and said ${JSON.stringify(line)}`;
  }
}

function inherited(): Record<string, string> {
  const known = INHERITED.map((name) => [name, process.env[name]] as const);
  return Object.fromEntries(known.flatMap(([name, value]) => (value ? [[name, value]] : [])));
}

function failed({ purpose, path, args }: ScriptCall, why: string, cause?: Error): TidemarkError {
  return new TidemarkError("IO_ERROR", `Cannot ${purpose}: because ${why}.`, {
    hint: `Run it by hand: ${[path, ...args].join(" ")}.`,
    ...(cause === undefined ? {} : { cause }),
  });
}
