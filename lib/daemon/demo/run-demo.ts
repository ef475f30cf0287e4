import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { DemoOptions } from "../../cli/local-commands.js";
import { formatBytes, formatDuration } from "../../cli/output.js";
import type { RecoveryPointBody } from "../../management/schemas.js";
import type { CycleReport } from "../../model/relationship.js";
import { TidemarkError } from "../../model/errors.js";
import { createCa } from "../../security/pki.js";
import { DemoHost } from "./demo-host.js";
import { DemoScreen } from "./demo-screen.js";
import { makeSampleDisk, type SampleDisk } from "./sample-disk.js";
import { verifyPoint } from "./verify-point.js";
import { WriteLoad } from "./write-load.js";

const VM = "sample";
const MIB = 1 << 20;
const INTERVAL_MS = 2000;
const CYCLES = 10;
const WRITTEN_BYTES = 2 ** 30;
/** To the end of the story: fast enough to have written it in its cycles. Without an end: steady. */
const STORY_BYTES_PER_SECOND = 56 * MIB;
const STEADY_BYTES_PER_SECOND = 24 * MIB;

/** The demonstration: two hosts, a VM under load, replication, failovers that are checked. */
export async function runDemo(options: DemoOptions, signal: AbortSignal): Promise<void> {
  const directory = options.directory ?? (await mkdtemp(join(tmpdir(), "tidemark-demo-")));
  await mkdir(directory, { recursive: true });
  const screen = new DemoScreen(options.json);
  try {
    await new Demo(options, directory, screen, signal).run();
  } catch (thrown) {
    // Whatever a step says that was interrupted: that is what was asked for.
    if (!signal.aborted) throw thrown;
  } finally {
    screen.endProgress();
    if (options.keep) screen.say(`The files are in ${directory}.`);
    else await rm(directory, { recursive: true, force: true });
  }
}

/** What is on them, in shares of their size. */
function disksOf(sizeBytes: number) {
  const mib = (share: number) => Math.round((sizeBytes / MIB) * share);
  return [
    { name: "system", sizeMib: mib(4 / 7), loadFileMib: mib(1 / 7), filesMib: mib(5 / 28) },
    { name: "data", sizeMib: mib(3 / 7), loadFileMib: mib(3 / 14), filesMib: mib(1 / 28) },
  ] as const;
}

class Demo {
  readonly #options: DemoOptions;
  readonly #directory: string;
  readonly #screen: DemoScreen;
  readonly #signal: AbortSignal;
  readonly #cycles: CycleReport[] = [];
  #initial: CycleReport | null = null;
  #verifiedBytes = 0;

  constructor(options: DemoOptions, directory: string, screen: DemoScreen, signal: AbortSignal) {
    this.#options = options;
    this.#directory = directory;
    this.#screen = screen;
    this.#signal = signal;
  }

  async run(): Promise<void> {
    const screen = this.#screen;
    screen.say("Making a CA, two hosts on loopback, and a VM with two ext4 disks of real files");
    const ca = join(this.#directory, "ca");
    await createCa(ca, { commonName: "Tidemark demonstration CA" });
    const disks = await this.#makeDisks();
    this.#signal.throwIfAborted();
    await using replica = await DemoHost.start(this.#directory, "replica", ca, true);
    await using primary = await DemoHost.start(this.#directory, "primary", ca, false);
    this.#signal.throwIfAborted();
    const load = await this.#enable(primary, replica, disks);
    const stopping = new AbortController();
    const until = AbortSignal.any([stopping.signal, this.#signal]);
    const rate = this.#options.once ? STORY_BYTES_PER_SECOND : STEADY_BYTES_PER_SECOND;
    const loading = load.run(rate, until);
    try {
      await Promise.race([this.#replicate(primary, load, until), loading]);
      if (this.#options.once && !this.#signal.aborted) await this.#failovers(replica, disks, load);
    } finally {
      stopping.abort();
      await loading.finally(() => load.close());
    }
    this.#close(load);
  }

  async #makeDisks(): Promise<SampleDisk[]> {
    const sourceDirectories = [
      "/usr/share/doc",
      "/usr/lib/python3",
      dirname(process.execPath),
      "/usr/share",
    ];
    const common = { directory: this.#directory, sourceDirectories, signal: this.#signal };
    const [system, data] = disksOf(this.#options.sizeBytes);
    return [
      await makeSampleDisk({ ...common, ...system }),
      await makeSampleDisk({ ...common, ...data }),
    ];
  }

  async #enable(
    primary: DemoHost,
    replica: DemoHost,
    disks: readonly SampleDisk[],
  ): Promise<WriteLoad> {
    const { peerAddress } = await replica.api.call("hostStatus", {});
    const vm = await primary.api.call("vmEnable", {
      name: VM,
      disks: disks.map(({ path }) => ({ path })),
      replicaUrl: `https://${peerAddress ?? ""}`,
      intervalMs: INTERVAL_MS,
    });
    this.#screen.say(
      `Replicating every ${formatDuration(INTERVAL_MS)} to https://${peerAddress ?? ""}, mutual TLS; the VM writes through NBD all the while`,
    );
    return WriteLoad.connect(
      disks,
      vm.disks.map((disk) => disk.uri ?? ""),
    );
  }

  /** Shows what happens; with --once until there were enough cycles and writes. */
  async #replicate(primary: DemoHost, load: WriteLoad, signal: AbortSignal): Promise<void> {
    for await (const event of primary.api.events(signal)) {
      if (event.type === "initial-progress")
        this.#screen.progress(event.sentBytes, event.totalBytes);
      if (event.type === "error")
        throw new TidemarkError("INTERNAL", `Replication failed: ${event.error.message}`);
      if (event.type === "cycle") this.#takeReport(event.report);
      if (this.#options.once && this.#cycles.length >= CYCLES && load.writtenBytes >= WRITTEN_BYTES)
        return;
    }
  }

  #takeReport(report: CycleReport): void {
    if (report.kind === "cycle") {
      this.#cycles.push(report);
      return this.#screen.cycle(this.#cycles.length, report);
    }
    this.#initial = report;
    this.#screen.endProgress();
    this.#screen.say(
      `  initial replication: ${formatBytes(report.changedBytes)} in ${formatDuration(report.durationMs)}, ${formatBytes(report.sentBytes)} sent`,
    );
  }

  async #failovers(
    replica: DemoHost,
    disks: readonly SampleDisk[],
    load: WriteLoad,
  ): Promise<void> {
    const points = await replica.api.call("pointList", {}, { vm: VM });
    const newest = points.at(-1);
    const older = points.at(-6) ?? points[0];
    if (newest === undefined || older === undefined)
      throw new TidemarkError("INTERNAL", "There is no recovery point.");
    await this.#check(replica, "the newest", newest, disks, load);
    await this.#check(replica, "an older", older, disks, load);
  }

  async #check(
    replica: DemoHost,
    which: string,
    point: RecoveryPointBody,
    disks: readonly SampleDisk[],
    load: WriteLoad,
  ): Promise<void> {
    this.#screen.say(
      `Checking a test failover to ${which} recovery point, number ${point.sequence}`,
    );
    const openedAtMs = performance.now();
    const opened = await replica.api.call("testFailover", { pointId: point.pointId }, { vm: VM });
    const openMs = performance.now() - openedAtMs;
    const { prefixLength, comparedBytes } = await verifyPoint(opened, disks, load, this.#directory);
    await replica.api.call("exportClose", {}, { export: opened.exportId });
    this.#verifiedBytes += comparedBytes;
    this.#screen.say(
      `  served after ${formatDuration(openMs)}; e2fsck clean; ${formatBytes(comparedBytes)} equal byte for byte to the VM after its write ${prefixLength}`,
    );
  }

  #close(load: WriteLoad): void {
    const sum = (pick: (report: CycleReport) => number) =>
      this.#cycles.reduce((total, report) => total + pick(report), 0);
    const worst = (pick: (report: CycleReport) => number) => Math.max(0, ...this.#cycles.map(pick));
    const sentBytes = sum((report) => report.sentBytes);
    const changedBytes = sum((report) => report.changedBytes);
    const initial = this.#initial;
    this.#screen.closing([
      ["written by the VM", `${formatBytes(load.writtenBytes)} in ${load.journal.length} writes`],
      [
        "initial replication",
        initial === null
          ? "not ended"
          : `${formatBytes(initial.changedBytes)} in ${formatDuration(initial.durationMs)}`,
      ],
      ["cycles", String(this.#cycles.length)],
      [
        "changed, sent",
        `${formatBytes(changedBytes)}, ${formatBytes(sentBytes)} (ratio ${(changedBytes / Math.max(1, sentBytes)).toFixed(2)})`,
      ],
      ["longest cycle", formatDuration(worst((report) => report.durationMs))],
      ["longest checkpoint pause", `${(worst((report) => report.pauseNs) / 1e6).toFixed(2)} ms`],
      ["largest lag at a commit", formatDuration(worst((report) => report.lagMs))],
      ["verified byte for byte", formatBytes(this.#verifiedBytes)],
    ]);
  }
}
