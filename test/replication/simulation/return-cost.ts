import type { MemoryVmTracker } from "#lib/model/memory-tracker.js";
import type { RelationshipRecord } from "#lib/model/relationship.js";
import type { RecoveryPoint } from "#lib/model/replica-endpoint.js";
import type { Guest } from "./guest.js";
import { TARGET_ID } from "./scene.js";

/** After them more may travel than was marked and written. */
const UPHEAVALS = [
  "unseen change",
  "bitmap lost",
  "disk added",
  "disk removed",
  "disk resized",
  "crash with other disks",
];

interface Allowance {
  readonly generationId: string;
  readonly bytes: number;
  readonly upheavals: number;
}

/** That a primary which gets its VM back sends what was marked before, and nothing else. */
export class ReturnCost {
  readonly #tracker: MemoryVmTracker;
  readonly #guest: Guest;
  readonly #happened: Readonly<Record<string, number>>;
  #generationId: string | null = null;
  /** Of the last check: what was marked, less what had been written until then. */
  #markedBytes = 0;
  #upheavals = 0;
  #allowance: Allowance | null = null;

  constructor(tracker: MemoryVmTracker, guest: Guest, happened: Readonly<Record<string, number>>) {
    this.#tracker = tracker;
    this.#guest = guest;
    this.#happened = happened;
  }

  /** What is wrong; null: nothing. */
  async check(
    { generation }: RelationshipRecord,
    points: readonly RecoveryPoint[],
  ): Promise<string | null> {
    const isReturn = this.#generationId !== null && this.#generationId !== generation.id;
    this.#generationId = generation.id;
    if (isReturn) {
      const [bytes, upheavals] = [this.#markedBytes, this.#upheavals];
      this.#allowance = { generationId: generation.id, bytes, upheavals };
    }
    await this.#note();
    return this.#judge(points);
  }

  async #note(): Promise<void> {
    const progress = await this.#tracker.progress(TARGET_ID).catch(() => null);
    const {
      pendingBytes = 0,
      inFlightBytes = 0,
      stagedBytes = 0,
      suspectBytes = 0,
    } = progress ?? {};
    const markedBytes = pendingBytes + inFlightBytes + stagedBytes + suspectBytes;
    this.#markedBytes = markedBytes - this.#guest.writtenBytes;
    this.#upheavals = UPHEAVALS.reduce((sum, name) => sum + (this.#happened[name] ?? 0), 0);
  }

  #judge(points: readonly RecoveryPoint[]): string | null {
    const allowance = this.#allowance;
    const first = points.find((point) => point.generation.id === allowance?.generationId);
    if (allowance === null || first === undefined) return null;
    this.#allowance = null;
    const allowedBytes = allowance.bytes + this.#guest.writtenBytes;
    if (allowance.upheavals !== this.#upheavals || first.changedBytes <= allowedBytes) return null;
    return `a VM that came back cost ${first.changedBytes} bytes instead of ${allowedBytes}`;
  }
}
