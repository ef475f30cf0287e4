import type { Test } from "tap";
import { tidemark } from "./program.js";

/** The command line against one host's directory. */
export class Cli {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async text(t: Test, ...args: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await tidemark("--dir", this.#directory, ...args);
    t.same([exitCode, stderr], [0, ""], `tidemark ${args.join(" ")}`);
    return stdout;
  }

  async json<T>(t: Test, ...args: readonly string[]): Promise<T> {
    return JSON.parse(await this.text(t, "--json", ...args)) as T;
  }

  /** Data on standard output, with exit status 1: the answer is "no". */
  async deniedJson<T>(t: Test, ...args: readonly string[]): Promise<T> {
    const outcome = await tidemark("--dir", this.#directory, "--json", ...args);
    t.same([outcome.exitCode, outcome.stderr], [1, ""], `tidemark ${args.join(" ")}`);
    return JSON.parse(outcome.stdout) as T;
  }

  /** One sentence on standard error, its code behind it; answers the sentence. */
  async fails(t: Test, code: string, ...args: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await tidemark("--dir", this.#directory, ...args);
    t.same([exitCode, stdout], [1, ""], `tidemark ${args.join(" ")}`);
    t.match(stderr, new RegExp(`^tidemark: Cannot [^\\n]+ \\[${code}\\]\\n$`));
    return stderr;
  }
}
