import { open } from "node:fs/promises";
import { join } from "node:path";
import { cpuSecondsOf } from "../cpu-time.js";
import { type BenchHost, makePki, ReplicatedDisk, startHost } from "../cycle-hosts.js";
import type { BenchContext, Derived, Measurement, Row, Trial, Workload } from "../model.js";
import { writeRealFiles } from "../real-files.js";
import type { Scope } from "../scope.js";
import { makeDirectory } from "../scratch.js";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const BLOCK_BYTES = 4096;
/** Blocks that change, or do not, come in runs of so many. */
const RUN_BLOCKS = 16;
const SUBJECT = { off: "all is sent", on: "unchanged is left out" } as const;
const CASE = {
  all: "all of it changed",
  half: "half of it changed",
  none: "none of it changed",
} as const;

/** What the disk holds, one after the other; each is written whole. */
class Contents {
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async make(context: BenchContext, scope: Scope): Promise<Contents> {
    const directory = await makeDirectory(scope, context.directory, "contents-");
    const contents = new Contents(directory);
    await writeRealFiles(contents.pathOf("first"), context.sizing.cycleBytes, scope.signal);
    await contents.#derive("all", "first", () => true);
    await contents.#derive("half", "all", (run) => run % 2 === 0);
    await contents.#derive("none", "half", () => false);
    return contents;
  }

  pathOf(name: string): string {
    return join(this.#directory, name);
  }

  /** Of the runs that change, each block is its neighbour's: as compressible as before. */
  async #derive(name: string, from: string, changes: (run: number) => boolean): Promise<void> {
    await using source = await open(this.pathOf(from));
    await using target = await open(this.pathOf(name), "wx");
    const runBytes = RUN_BLOCKS * BLOCK_BYTES;
    const run = Buffer.alloc(runBytes);
    for (let index = 0; ; index += 1) {
      const { bytesRead } = await source.read(run, 0, runBytes, index * runBytes);
      if (bytesRead === 0) return;
      const content = run.subarray(0, bytesRead);
      const turned = Buffer.concat([
        content.subarray(BLOCK_BYTES),
        content.subarray(0, BLOCK_BYTES),
      ]);
      await target.write(changes(index) ? turned : content);
    }
  }
}

async function measure(
  context: BenchContext,
  subject: keyof typeof SUBJECT,
  scope: Scope,
): Promise<Measurement[]> {
  const contents = await Contents.make(context, scope);
  const directory = await makeDirectory(scope, context.socketDirectory, "unchanged-");
  const ca = await makePki(directory);
  const replica = await startHost(directory, "replica", ca, scope);
  const primary = await startHost(directory, "primary", ca, scope);
  const disk = await ReplicatedDisk.enable(
    primary,
    replica,
    join(directory, "disk.raw"),
    context.sizing.cycleBytes,
    scope.signal,
    { skipUnchanged: subject === "on" },
  );
  await disk.write(contents.pathOf("first"));
  await disk.cycle(context.sizing.cycleBytes / 2);
  const measurements: Measurement[] = [];
  for (const name of ["all", "half", "none"] as const) {
    await disk.write(contents.pathOf(name));
    const values = await measureCycle(disk, primary, replica, context.sizing.cycleBytes / 2);
    measurements.push({ caseName: CASE[name], subject: SUBJECT[subject], values });
  }
  return measurements;
}

async function measureCycle(
  disk: ReplicatedDisk,
  primary: BenchHost,
  replica: BenchHost,
  leastBytes: number,
): Promise<Record<string, number>> {
  const cpu = () => Promise.all([primary, replica].map((host) => cpuSecondsOf(host.processId)));
  const [senderBefore = 0, receiverBefore = 0] = await cpu();
  const { changedBytes, unchangedBytes, sentBytes, durationMs } = await disk.cycle(leastBytes);
  const [senderAfter = 0, receiverAfter = 0] = await cpu();
  const perGib = (cpuSeconds: number) => (cpuSeconds / changedBytes) * GIB;
  return {
    mibPerSecond: changedBytes / MIB / (durationMs / 1000),
    senderCpu: perGib(senderAfter - senderBefore),
    receiverCpu: perGib(receiverAfter - receiverBefore),
    sentRatio: sentBytes / changedBytes,
    unchangedRatio: unchangedBytes / changedBytes,
  };
}

/** Of the sender's CPU time. */
function costs(rows: readonly Row[]): Derived[] {
  return Object.values(CASE).flatMap((caseName) => {
    const cpuOf = (subject: string) =>
      rows.find((row) => row.caseName === caseName && row.subject === subject)?.metrics["senderCpu"]
        ?.median;
    const [off, on] = [cpuOf(SUBJECT.off), cpuOf(SUBJECT.on)];
    if (off === undefined || on === undefined) return [];
    return [{ name: `${caseName}: sender's CPU time, on beside off`, value: on / off, unit: "x" }];
  });
}

export const unchanged: Workload = {
  name: "unchanged",
  summary: "a disk that is rewritten, all, half or nothing of it with other content",
  metrics: [
    { key: "mibPerSecond", title: "MiB/s changed", better: "higher", digits: 0 },
    { key: "senderCpu", title: "sender CPU s/GiB", better: "lower", digits: 2 },
    { key: "receiverCpu", title: "receiver CPU s/GiB", better: "lower", digits: 2 },
    { key: "sentRatio", title: "sent/changed", better: "lower", digits: 3 },
    { key: "unchangedRatio", title: "left out/changed", better: "higher", digits: 3 },
  ],
  plan: (context) => {
    const trials = (["off", "on"] as const).map(
      (subject): Trial => ({
        name: SUBJECT[subject],
        run: (scope) => measure(context, subject, scope),
      }),
    );
    return Promise.resolve({ groups: [trials], rounds: context.sizing.rounds, skipped: [] });
  },
  derive: costs,
};
