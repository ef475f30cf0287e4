import { rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { BenchContext, Measurement, Trial, Workload } from "../model.js";
import { writeRealFiles } from "../real-files.js";
import type { Scope } from "../scope.js";
import { makeDirectory } from "../scratch.js";

const MIB = 2 ** 20;
const SUBJECT = {
  layer: "tidemark into a layer",
  base: "tidemark into the base",
  copy: "cp --sparse=always",
  durableCopy: "cp --sparse=always, synced",
} as const;

function program(...given: string[]): string[] {
  const path = fileURLToPath(new URL("../programs/merge-layers.ts", import.meta.url));
  return [process.execPath, "--import", "tsx", path, ...given];
}

class MergeBench {
  readonly #context: BenchContext;
  readonly #extentBytes: number;
  #content: Promise<string> | null = null;

  constructor(context: BenchContext, extentBytes: number) {
    this.#context = context;
    this.#extentBytes = extentBytes;
  }

  trials(): Trial[] {
    return [
      { name: SUBJECT.layer, run: (scope) => this.#merge(scope, "layer") },
      { name: SUBJECT.base, run: (scope) => this.#merge(scope, "base") },
      { name: SUBJECT.copy, run: (scope) => this.#copy(scope) },
    ];
  }

  async #merge(scope: Scope, kind: "layer" | "base"): Promise<Measurement[]> {
    const directory = await this.#layers(scope);
    const said = await scope.run(program(kind, directory));
    const { seconds } = z.object({ seconds: z.number() }).parse(JSON.parse(said));
    return [this.#measured(SUBJECT[kind], seconds)];
  }

  /** What a merge does is durable when it ends; cp alone says so long before. */
  async #copy(scope: Scope): Promise<Measurement[]> {
    const directory = await this.#layers(scope);
    const [from, to] = [join(directory, "image.raw"), join(directory, "copy.raw")];
    const startedAtMs = performance.now();
    await scope.run(["cp", "--sparse=always", from, to]);
    const seconds = (performance.now() - startedAtMs) / 1000;
    await scope.run(["sync", "-d", to]);
    const durableSeconds = (performance.now() - startedAtMs) / 1000;
    return [
      this.#measured(SUBJECT.copy, seconds),
      this.#measured(SUBJECT.durableCopy, durableSeconds),
    ];
  }

  #measured(subject: string, seconds: number): Measurement {
    const mibPerSecond = this.#context.sizing.cycleBytes / MIB / seconds;
    return { caseName: this.#caseName, subject, values: { mibPerSecond } };
  }

  get #caseName(): string {
    const { cycleBytes } = this.#context.sizing;
    return `${cycleBytes / MIB} MiB in 12 layers, ${this.#extentBytes / 1024} KiB extents`;
  }

  /** Just written: all subjects find them in the page cache. */
  async #layers(scope: Scope): Promise<string> {
    const directory = await makeDirectory(scope, this.#context.directory, "merge-");
    await scope.run(program("make", directory, await this.#contentPath(), `${this.#extentBytes}`));
    return directory;
  }

  async #contentPath(): Promise<string> {
    const { directory, sizing, scope } = this.#context;
    this.#content ??= (async () => {
      const path = join(directory, `merge-content-${this.#extentBytes}`);
      scope.onClose(() => rm(path, { force: true }));
      await writeRealFiles(path, sizing.cycleBytes, scope.signal);
      return path;
    })();
    return this.#content;
  }
}

export const merge: Workload = {
  name: "merge",
  summary: "thinning and merging a replica's layers, beside cp of the same data",
  metrics: [{ key: "mibPerSecond", title: "MiB/s", better: "higher", digits: 0 }],
  plan: (context) => {
    const groups = [65_536, 4096].map((bytes) => new MergeBench(context, bytes).trials());
    return Promise.resolve({ groups, rounds: context.sizing.rounds, skipped: [] });
  },
};
