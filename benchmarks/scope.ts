import { Program, type ProgramOptions } from "./program.js";

/**
 * Owns whatever a run starts or makes, and undoes it in reverse order: on
 * success, on failure and when the signal aborts.
 */
export class Scope implements AsyncDisposable {
  readonly signal: AbortSignal;
  readonly #undo: (() => Promise<unknown>)[] = [];

  constructor(signal: AbortSignal) {
    this.signal = signal;
  }

  onClose(undo: () => Promise<unknown>): void {
    this.#undo.push(undo);
  }

  /** Started now, and stopped when the scope closes. */
  start(command: readonly string[], options: ProgramOptions = {}): Program {
    this.signal.throwIfAborted();
    const program = Program.start(command, options);
    const stop = () => void program.stop();
    this.signal.addEventListener("abort", stop, { once: true });
    this.onClose(async () => {
      this.signal.removeEventListener("abort", stop);
      await program.stop();
    });
    return program;
  }

  /** Runs it to its end; answers what it printed. Throws when it fails. */
  async run(command: readonly string[], options: ProgramOptions = {}): Promise<string> {
    const program = this.start(command, options);
    const output = await program.succeed();
    this.signal.throwIfAborted();
    return output;
  }

  async close(): Promise<void> {
    const failures: unknown[] = [];
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) {
      await undo().catch((thrown: unknown) => failures.push(thrown));
    }
    if (failures.length > 0) throw failures[0];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
