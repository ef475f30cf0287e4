import type { CycleReport } from "../model/relationship.js";

/** The last reports, oldest first, and what was counted since the start. */
export class CycleHistory {
  readonly #length: number;
  readonly #reports: CycleReport[] = [];
  cycleCount = 0;
  missedCount = 0;

  constructor(length: number) {
    this.#length = length;
  }

  add(report: CycleReport): void {
    this.cycleCount += 1;
    this.#reports.push(report);
    if (this.#reports.length > this.#length) this.#reports.shift();
  }

  get last(): CycleReport | null {
    return this.#reports.at(-1) ?? null;
  }

  get reports(): readonly CycleReport[] {
    return [...this.#reports];
  }
}
