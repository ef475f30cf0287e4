import { open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { issueCertificate } from "#lib/security/pki.js";
import { cpuSecondsOf, endedChildrenCpuSeconds, peakMemoryMib } from "../cpu-time.js";
import { makePki, ReplicatedDisk, startHost } from "../cycle-hosts.js";
import type { BenchContext, Derived, Measurement, Row, Trial, Workload } from "../model.js";
import { missingBackupPrograms, nbdCopy, qemuIncrementalBackup } from "../nbd-backup.js";
import { isInstalled } from "../program.js";
import { writeRealFiles } from "../real-files.js";
import type { Scope } from "../scope.js";
import { makeDirectory } from "../scratch.js";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const SUBJECT = {
  /** Of a service that has just started: its lanes are started for it. */
  first: "tidemark first cycle",
  cycle: "tidemark cycle",
  zstd: "zstd -1 -T2",
  https: "node:https upload",
  qemu: "QEMU incremental backup",
  nbdcopy: "nbdcopy",
} as const;

function program(name: string): string[] {
  const path = fileURLToPath(new URL(`../programs/${name}.ts`, import.meta.url));
  return [process.execPath, "--import", "tsx", path];
}

class CycleBench {
  readonly #context: BenchContext;
  readonly #caseName: string;
  #content: Promise<string> | null = null;

  constructor(context: BenchContext) {
    this.#context = context;
    this.#caseName = `${context.sizing.cycleBytes / MIB} MiB of system files`;
  }

  trials(): Trial[] {
    return [
      { name: SUBJECT.cycle, run: (scope) => this.#cycle(scope) },
      ...(isInstalled("zstd")
        ? [{ name: SUBJECT.zstd, run: (scope: Scope) => this.#zstd(scope) }]
        : []),
      { name: SUBJECT.https, run: (scope) => this.#https(scope) },
      ...(missingBackupPrograms().length > 0 ? [] : this.#overNbd()),
    ];
  }

  async #cycle(scope: Scope): Promise<Measurement[]> {
    const { cycleBytes } = this.#context.sizing;
    const contentPath = await this.#contentPath();
    const directory = await makeDirectory(scope, this.#context.socketDirectory, "cycle-");
    const ca = await makePki(directory);
    const replica = await startHost(directory, "replica", ca, scope);
    const primary = await startHost(directory, "primary", ca, scope);
    const diskPath = join(directory, "disk.raw");
    const disk = await ReplicatedDisk.enable(primary, replica, diskPath, cycleBytes, scope.signal);
    const measureOne = async (subject: string) => {
      await disk.write(contentPath);
      const before = await bothCpu(primary.processId, replica.processId);
      const report = await disk.cycle(cycleBytes / 2);
      const after = await bothCpu(primary.processId, replica.processId);
      return this.#measured(subject, report.changedBytes, report.durationMs / 1000, {
        senderCpu: after.sender - before.sender,
        receiverCpu: after.receiver - before.receiver,
        sentRatio: report.sentBytes / report.changedBytes,
        senderMib: await peakMemoryMib(primary.processId),
        receiverMib: await peakMemoryMib(replica.processId),
      });
    };
    const first = await measureOne(SUBJECT.first);
    return [...first, ...(await measureOne(SUBJECT.cycle))];
  }

  async #zstd(scope: Scope): Promise<Measurement[]> {
    const contentPath = await this.#contentPath();
    const directory = await makeDirectory(scope, this.#context.directory, "zstd-");
    const output = join(directory, "content.zst");
    const before = await endedChildrenCpuSeconds();
    const startedAtMs = performance.now();
    await scope.run(["zstd", "-q", "-1", "-T2", contentPath, "-o", output]);
    const seconds = (performance.now() - startedAtMs) / 1000;
    const senderCpu = (await endedChildrenCpuSeconds()) - before;
    const { cycleBytes } = this.#context.sizing;
    const sentRatio = (await stat(output)).size / cycleBytes;
    return this.#measured(SUBJECT.zstd, cycleBytes, seconds, { senderCpu, sentRatio });
  }

  async #https(scope: Scope): Promise<Measurement[]> {
    const contentPath = await this.#contentPath();
    const directory = await makeDirectory(scope, this.#context.socketDirectory, "https-");
    const ca = await makePki(directory);
    const pki = join(directory, "pki");
    await issueCertificate(ca, ["localhost", "127.0.0.1"], { outputDirectory: pki });
    const receiver = scope.start([...program("https-receiver"), pki]);
    await receiver.until(() => receiver.output.includes("port"));
    const { port } = z.object({ port: z.number() }).parse(JSON.parse(receiver.output));
    const before = await cpuSecondsOf(receiver.pid);
    const said = await scope.run([...program("https-upload"), pki, String(port), contentPath]);
    const receiverCpu = (await cpuSecondsOf(receiver.pid)) - before;
    const { seconds, cpuSeconds: senderCpu } = z
      .object({ seconds: z.number(), cpuSeconds: z.number() })
      .parse(JSON.parse(said));
    const { cycleBytes } = this.#context.sizing;
    const values = { senderCpu, receiverCpu, sentRatio: 1 };
    return this.#measured(SUBJECT.https, cycleBytes, seconds, values);
  }

  #overNbd(): Trial[] {
    const trial = (name: string, run: typeof nbdCopy): Trial => ({
      name,
      run: async (scope) => {
        const contentPath = await this.#contentPath();
        const directory = await makeDirectory(scope, this.#context.socketDirectory, "nbd-");
        const { cycleBytes: sizeBytes } = this.#context.sizing;
        const { seconds, ...cost } = await run(scope, { directory, contentPath, sizeBytes });
        return this.#measured(name, sizeBytes, seconds, cost);
      },
    });
    return [trial(SUBJECT.qemu, qemuIncrementalBackup), trial(SUBJECT.nbdcopy, nbdCopy)];
  }

  #measured(
    subject: string,
    bytes: number,
    seconds: number,
    values: Readonly<Record<string, number>> & { readonly senderCpu: number },
  ): Measurement[] {
    const { senderCpu, receiverCpu = 0, ...rest } = values;
    const perGib = (cpuSeconds: number) => (cpuSeconds / bytes) * GIB;
    const measured = {
      mibPerSecond: bytes / MIB / seconds,
      senderCpu: perGib(senderCpu),
      receiverCpu: perGib(receiverCpu),
      bothCpu: perGib(senderCpu + receiverCpu),
    };
    return [{ caseName: this.#caseName, subject, values: { ...measured, ...rest } }];
  }

  /** Read before each trial, so that every subject finds it cached. */
  async #contentPath(): Promise<string> {
    const { directory, sizing, scope } = this.#context;
    this.#content ??= (async () => {
      const path = join(directory, "content");
      scope.onClose(() => rm(path, { force: true }));
      await writeRealFiles(path, sizing.cycleBytes, scope.signal);
      return path;
    })();
    const path = await this.#content;
    const file = await open(path, "r+");
    await file.sync();
    for await (const piece of file.createReadStream({ highWaterMark: 4 * MIB })) void piece;
    return path;
  }
}

async function bothCpu(sender: number, receiver: number) {
  return { sender: await cpuSecondsOf(sender), receiver: await cpuSecondsOf(receiver) };
}

/** Speed, CPU time and bytes on the wire of what others do over NBD: ours divided by theirs. */
function besideNbd(rows: readonly Row[]): Derived[] {
  const median = (subject: string, metric: string) =>
    rows.find((row) => row.subject === subject)?.metrics[metric]?.median;
  return [SUBJECT.qemu, SUBJECT.nbdcopy].flatMap((peer) =>
    (["mibPerSecond", "bothCpu", "sentRatio"] as const).flatMap((metric) => {
      const [own, other] = [median(SUBJECT.cycle, metric), median(peer, metric)];
      if (own === undefined || other === undefined) return [];
      return [{ name: `cycle beside ${peer}: ${TITLE[metric]}`, value: own / other, unit: "x" }];
    }),
  );
}

const TITLE = { mibPerSecond: "MiB/s", bothCpu: "CPU s/GiB", sentRatio: "bytes sent" } as const;

function shareOfSlower(rows: readonly Row[]): Derived[] {
  const speed = (subject: string) =>
    rows.find((row) => row.subject === subject)?.metrics["mibPerSecond"]?.median;
  const [own, zstd, https] = [speed(SUBJECT.cycle), speed(SUBJECT.zstd), speed(SUBJECT.https)];
  if (own === undefined || https === undefined) return [];
  const slower = zstd === undefined || https < zstd ? SUBJECT.https : SUBJECT.zstd;
  const value = own / Math.min(https, zstd ?? Number.POSITIVE_INFINITY);
  return [{ name: `cycle beside the slower of the two alone (${slower})`, value, unit: "x" }];
}

export const cycle: Workload = {
  name: "cycle",
  summary: "from dirty blocks to a committed recovery point: two hosts on loopback, TLS, zstd 1",
  metrics: [
    { key: "mibPerSecond", title: "MiB/s", better: "higher", digits: 0 },
    { key: "bothCpu", title: "CPU s/GiB", better: "lower", digits: 2 },
    { key: "senderCpu", title: "sender", better: "lower", digits: 2 },
    { key: "receiverCpu", title: "receiver", better: "lower", digits: 2 },
    { key: "sentRatio", title: "sent/changed", better: "lower", digits: 3 },
    { key: "senderMib", title: "sender peak MiB", better: "lower", digits: 0 },
    { key: "receiverMib", title: "receiver peak MiB", better: "lower", digits: 0 },
  ],
  plan: (context) => {
    const skipped = isInstalled("zstd") ? [] : [`${SUBJECT.zstd}: it is not installed`];
    const missing = missingBackupPrograms().join(", ");
    if (missing !== "") skipped.push(`${SUBJECT.qemu} and ${SUBJECT.nbdcopy}: without ${missing}`);
    const groups = [new CycleBench(context).trials()];
    return Promise.resolve({ groups, rounds: context.sizing.rounds, skipped });
  },
  derive: (rows) => [...shareOfSlower(rows), ...besideNbd(rows)],
};
