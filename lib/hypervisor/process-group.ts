import { setTimeout as sleep } from "node:timers/promises";
import { livingProcesses } from "./processes.js";

const POLL_MS = 10;

/** A script and all that it has started and not put elsewhere. */
export class ProcessGroup {
  readonly #id: number;

  constructor(id: number) {
    this.#id = id;
  }

  kill(signal: "SIGTERM" | "SIGKILL" = "SIGKILL"): void {
    try {
      process.kill(-this.#id, signal);
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== "ESRCH") throw thrown;
    }
  }

  /** False: a process that was killed is held up in the kernel, and goes on there. */
  async hasEnded(withinMs: number): Promise<boolean> {
    const untilMs = performance.now() + withinMs;
    for (;;) {
      const processes = await livingProcesses();
      if (!processes.some(({ groupId }) => groupId === this.#id)) return true;
      if (performance.now() >= untilMs) return false;
      await sleep(POLL_MS);
    }
  }
}
