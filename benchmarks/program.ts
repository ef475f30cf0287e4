import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { BenchError } from "./bench-error.js";

const STOP_LIMIT_MS = 10_000;
const KEPT_TEXT = 1 << 20;
const SETPRIV = "/usr/bin/setpriv";
/** Programs of the system live in sbin, which a user's PATH may lack. */
const PATH = `${process.env["PATH"] ?? ""}${delimiter}/usr/sbin${delimiter}/sbin`;

export interface ProgramOptions {
  readonly cwd?: string;
}

/** A child process. It dies with this process, however that ends. */
export class Program {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #ended: Promise<number | null>;
  #output = "";
  #errors = "";

  private constructor(child: ChildProcess, name: string) {
    this.#child = child;
    this.#name = name;
    this.pid = child.pid ?? 0;
    child.stdout?.on("data", (chunk: Buffer) => {
      this.#output = (this.#output + chunk.toString()).slice(-KEPT_TEXT);
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      this.#errors = (this.#errors + chunk.toString()).slice(-KEPT_TEXT);
    });
    this.#ended = new Promise((resolve) => {
      child.once("error", (error) => {
        this.#errors += error.message;
        resolve(null);
      });
      child.once("close", (code) => resolve(code));
    });
  }

  static start(command: readonly string[], options: ProgramOptions): Program {
    const [name = ""] = command;
    const guarded = existsSync(SETPRIV)
      ? [SETPRIV, "--pdeathsig", "KILL", "--", ...command]
      : command;
    const [file = "", ...rest] = guarded;
    const child = spawn(file, rest, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, PATH },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    return new Program(child, name);
  }

  get output(): string {
    return this.#output;
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null || this.pid === 0;
  }

  /** Until it ends; its standard output. */
  async succeed(): Promise<string> {
    const code = await this.#ended;
    if (code === 0) return this.#output;
    throw this.failure(`it ended with status ${code ?? this.#child.signalCode ?? "none"}`);
  }

  /** Until `isReady` says so. Throws when the program ends before that, or takes too long. */
  async until(isReady: () => Promise<boolean> | boolean, limitMs = 30_000): Promise<void> {
    const endMs = performance.now() + limitMs;
    while (!(await isReady())) {
      if (this.hasEnded) throw this.failure("it ended before it was ready");
      if (performance.now() > endMs) throw this.failure("it was not ready in time");
      await delay(10);
    }
  }

  failure(why: string): BenchError {
    const said = (this.#errors.trim() || this.#output.trim()).split("\n").slice(-5).join(" / ");
    return new BenchError(
      `Cannot run ${this.#name}: because ${why}. It said: ${said || "nothing"}`,
    );
  }

  async stop(): Promise<void> {
    if (this.hasEnded) return;
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_LIMIT_MS);
    await this.#ended;
    clearTimeout(timer);
  }
}

export function isInstalled(name: string): boolean {
  return PATH.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
