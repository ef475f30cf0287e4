import { Presets, SingleBar } from "cli-progress";
import { formatDuration, formatMib, printTable } from "../../cli/output.js";
import type { CycleReport } from "../../model/relationship.js";

/** What the demonstration shows: lines on a pipe, a bar on a terminal; objects with --json. */
export class DemoScreen {
  readonly #json: boolean;
  #bar: SingleBar | null = null;
  #shownPercent = -1;

  constructor(json: boolean) {
    this.#json = json;
  }

  say(text: string): void {
    if (!this.#json) process.stdout.write(`${text}\n`);
  }

  progress(sentBytes: number, totalBytes: number): void {
    if (this.#json || totalBytes === 0) return;
    if (!process.stdout.isTTY)
      return this.#progressLine(Math.floor((sentBytes / totalBytes) * 100));
    if (this.#bar === null) {
      const format = "  initial replication [{bar}] {percentage}% | {value}/{total} MiB";
      this.#bar = new SingleBar({ format, hideCursor: true }, Presets.shades_classic);
      this.#bar.start(Math.ceil(totalBytes / 2 ** 20), 0);
    }
    this.#bar.setTotal(Math.ceil(totalBytes / 2 ** 20));
    this.#bar.update(Math.floor(sentBytes / 2 ** 20));
  }

  endProgress(): void {
    this.#bar?.stop();
    this.#bar = null;
  }

  cycle(number: number, report: CycleReport): void {
    if (this.#json) return this.#object({ cycle: number, ...report });
    const ratio =
      report.sentBytes === 0 ? "-" : (report.changedBytes / report.sentBytes).toFixed(2);
    this.say(
      `  cycle ${String(number).padStart(3)}  changed ${formatMib(report.changedBytes).padStart(7)} MiB  sent ${formatMib(report.sentBytes).padStart(7)} MiB` +
        `  ratio ${ratio.padStart(5)}  took ${formatDuration(report.durationMs).padStart(7)}  lag ${formatDuration(report.lagMs).padStart(7)}`,
    );
  }

  closing(rows: readonly (readonly [string, string])[]): void {
    if (this.#json) return this.#object({ measured: Object.fromEntries(rows) });
    this.say("");
    printTable(["MEASURED", ""], rows);
  }

  #progressLine(percent: number): void {
    if (percent < this.#shownPercent + 10) return;
    this.#shownPercent = percent;
    this.say(`  initial replication ${percent} %`);
  }

  #object(value: unknown): void {
    process.stdout.write(`${JSON.stringify(value)}\n`);
  }
}
