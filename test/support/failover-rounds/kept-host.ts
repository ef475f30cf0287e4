import { setTimeout as sleep } from "node:timers/promises";
import type { ApiClient } from "#lib/management/api-client.js";
import type { VmStatus } from "#lib/management/schemas.js";
import type { HostProcess } from "../host-process.js";

const DOWN_POLL_MS = 20;

/** A host that a supervisor starts again whenever it is killed, as systemd would. */
export class KeptHost {
  readonly name: string;
  readonly process: HostProcess;
  /** Lives that ended as no kill ends them. */
  readonly faults: string[] = [];
  /** By failpoint: how often it has killed the host. */
  readonly hits = new Map<string, number>();
  /** Of lives that were ended, by a failpoint or otherwise. */
  deathCount = 0;
  /** Of the next life, and of this one. */
  #failpoint = "";
  #armed = "";
  #isWanted = true;
  #isEnding = false;
  #isOurKill = false;
  #keeping: Promise<void> = Promise.resolve();

  constructor(name: string, process: HostProcess) {
    this.name = name;
    this.process = process;
  }

  get api(): ApiClient {
    return this.process.api;
  }

  async begin(): Promise<void> {
    await this.process.start();
    this.#keeping = this.#keep();
  }

  /** Killed now, and from its next life on again where that failpoint is. */
  async arm(failpoint: string): Promise<void> {
    this.#failpoint = failpoint;
    await this.kill();
  }

  async kill(): Promise<void> {
    if (!this.process.isRunning) return;
    this.#isOurKill = true;
    await this.process.kill();
  }

  /** Until up(); what was armed still is then. */
  async down(): Promise<void> {
    this.#isWanted = false;
    this.#failpoint ||= this.#armed;
    await this.kill();
  }

  up(): void {
    this.#isWanted = true;
  }

  vm(name: string): Promise<VmStatus> {
    return this.api.call("vmStatus", {}, { vm: name });
  }

  async end(): Promise<void> {
    this.#isEnding = true;
    this.process.resume();
    await this.process.kill();
    await this.#keeping;
  }

  async #keep(): Promise<void> {
    for (;;) {
      const { code, signal } = await this.process.death;
      if (this.#isEnding) return;
      this.#note(code, signal);
      while (!this.#isWanted && !this.#isEnding) await sleep(DOWN_POLL_MS);
      if (this.#isEnding) return;
      this.#armed = this.#failpoint;
      this.#failpoint = "";
      try {
        await this.process.start(this.#armed);
      } catch (thrown) {
        if (!this.#isOurKill) this.faults.push(String(thrown));
      }
    }
  }

  #note(code: number | null, signal: NodeJS.Signals | null): void {
    this.deathCount += 1;
    const isOurs = this.#isOurKill;
    this.#isOurKill = false;
    if (isOurs) return;
    if (signal !== "SIGKILL" || this.#armed === "") {
      this.faults.push(`${this.name} ended by itself (${code ?? signal}): ${this.process.stderr}`);
      return;
    }
    const name = this.#armed.split(":")[0] ?? "";
    this.hits.set(name, (this.hits.get(name) ?? 0) + 1);
  }
}
