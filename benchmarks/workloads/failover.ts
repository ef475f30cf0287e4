import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { type FioJob, jobName, runFio } from "../fio.js";
import type { BenchContext, Measurement, Trial, Workload } from "../model.js";
import { parseLines } from "../native-tool.js";
import type { Program } from "../program.js";
import type { Scope } from "../scope.js";
import { makeDirectory } from "../scratch.js";

const PROGRAM = fileURLToPath(new URL("../programs/failover-disk.ts", import.meta.url));
const SUBJECT = { raw: "raw file", point: "recovery point", fold: "while it is folded" } as const;
type Mode = keyof typeof SUBJECT;

const JOBS: readonly FioJob[] = [
  { mix: "randread", blockBytes: 4096, queueDepth: 32, connections: 1 },
  { mix: "randwrite", blockBytes: 4096, queueDepth: 32, connections: 1 },
  { mix: "randrw", blockBytes: 4096, queueDepth: 4, connections: 1 },
];

const line = z.union([z.object({ usableMs: z.number() }), z.object({ foldSeconds: z.number() })]);

class FailoverBench {
  readonly #context: BenchContext;
  readonly #dataBytes: number;
  readonly #extentCount: number;
  #disk: Promise<string> | null = null;

  constructor(context: BenchContext) {
    const { isQuick } = context.sizing;
    this.#context = context;
    this.#dataBytes = isQuick ? 32 << 20 : 256 << 20;
    this.#extentCount = isQuick ? 50 : 1000;
  }

  groups(): Trial[][] {
    const modes = Object.keys(SUBJECT) as Mode[];
    return JOBS.map((job) =>
      modes.map((mode) => ({
        name: `${jobName(job)} ${SUBJECT[mode]}`,
        caseName: jobName(job),
        run: (scope: Scope) => this.#measure(scope, job, mode),
      })),
    );
  }

  async #measure(scope: Scope, job: FioJob, mode: Mode): Promise<Measurement[]> {
    const { socketDirectory, sizing } = this.#context;
    const disk = await this.#made();
    const directory = await makeDirectory(scope, socketDirectory, "fo-");
    const socketPath = join(directory, "nbd.sock");
    const program = scope.start(command(mode, disk, socketPath));
    await program.until(() => program.output.includes("usableMs"));
    const uri = `nbd+unix:///?socket=${socketPath}`;
    const load = await runFio(job, { uri }, this.#dataBytes, sizing.seconds, directory, scope);
    const { requestCount: _count, ...values } = load;
    const said = valuesOf(program);
    return [{ caseName: jobName(job), subject: SUBJECT[mode], values: { ...values, ...said } }];
  }

  #made(): Promise<string> {
    const { directory, scope } = this.#context;
    this.#disk ??= (async () => {
      const made = await makeDirectory(scope, directory, "failover-");
      await scope.run(command("make", made, `${this.#dataBytes}`, `${this.#extentCount}`));
      return made;
    })();
    return this.#disk;
  }
}

function command(...given: string[]): string[] {
  return [process.execPath, "--import", "tsx", PROGRAM, ...given];
}

/** A fold that did not end under the load has no time. */
function valuesOf(program: Program): Record<string, number> {
  return Object.assign({}, ...parseLines(program.output, (value) => line.parse(value)));
}

export const failover: Workload = {
  name: "failover",
  summary: "a recovery point of 1 TiB and 200 layers as a disk, and while a commit folds it",
  metrics: [
    { key: "usableMs", title: "usable ms", better: "lower", digits: 0 },
    { key: "iops", title: "IOPS", better: "higher", digits: 0 },
    { key: "p50Us", title: "p50 µs", better: "lower", digits: 1 },
    { key: "p99Us", title: "p99 µs", better: "lower", digits: 0 },
    { key: "foldSeconds", title: "fold s", better: "lower", digits: 1 },
  ],
  plan: (context) =>
    Promise.resolve({
      groups: new FailoverBench(context).groups(),
      rounds: context.sizing.rounds,
      skipped: [],
    }),
};
