import { randomUUID } from "node:crypto";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { TidemarkError } from "../../model/errors.js";
import type { Domain } from "./domain.js";
import { virshEnvironment } from "./virsh.js";

const LINE = /^event '([a-z0-9-]+)' for domain .*': (.*)$/;
const LIMIT_MS = 10_000;
const RETRY_MS = 50;

export interface DomainEvent {
  /** As libvirt calls it: "lifecycle", "block-job", ... */
  readonly kind: string;
  readonly detail: string;
}

/** What libvirt tells of a domain, from begin() on. */
export class DomainEvents {
  /** Resolves when nothing is told any more. */
  readonly ended: Promise<void>;
  readonly #child: ChildProcess;
  #listener: (event: DomainEvent) => void = () => {};

  private constructor(domain: Domain) {
    const args = ["event", "--domain", domain.uuid, "--all", "--loop"];
    this.#child = spawn("virsh", domain.virsh.arguments(args), {
      env: virshEnvironment(),
      stdio: ["ignore", "pipe", "ignore"],
    });
    this.ended = new Promise((resolve) => {
      this.#child.once("close", () => resolve());
      this.#child.once("error", () => resolve());
    });
    const { stdout } = this.#child;
    if (stdout !== null) createInterface({ input: stdout }).on("line", (line) => this.#take(line));
  }

  static async begin(domain: Domain, signal: AbortSignal): Promise<DomainEvents> {
    const events = new DomainEvents(domain);
    try {
      await events.#untilHeard(domain, signal);
      return events;
    } catch (thrown) {
      await events.close();
      throw thrown;
    }
  }

  set listener(listener: (event: DomainEvent) => void) {
    this.#listener = listener;
  }

  async close(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill("SIGKILL");
      if (this.#child.pid !== undefined) await once(this.#child, "exit");
    }
    await this.ended;
  }

  #take(line: string): void {
    const [, kind, detail] = LINE.exec(line) ?? [];
    if (kind !== undefined && detail !== undefined) this.#listener({ kind, detail });
  }

  /**
   * virsh does not say from when on it listens. So the running domain, not its definition, gets
   * a note of ours until the event of that was heard.
   */
  async #untilHeard(domain: Domain, signal: AbortSignal): Promise<void> {
    const uri = `urn:tidemark:watch:${randomUUID()}`;
    const note = ["metadata", domain.uuid, "--uri", uri, "--live"];
    const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
    let isHeard = false;
    this.#listener = ({ kind, detail }) => {
      if (kind === "metadata-change" && detail.endsWith(uri)) isHeard = true;
    };
    void this.ended.then(() => (isHeard = true));
    while (!isHeard) {
      await domain.virsh.run([...note, "--key", "tidemark", "--set", "<watch/>"], limit);
      await sleep(RETRY_MS, undefined, { signal: limit });
    }
    await domain.virsh.run([...note, "--remove"], limit);
    this.#listener = () => {};
    if (this.#child.exitCode !== null || this.#child.pid === undefined) throw notHeard();
  }
}

function notHeard(): TidemarkError {
  return new TidemarkError("IO_ERROR", "Cannot hear a VM's events: because virsh event ended.", {
    hint: "Check libvirt's service, and repeat it.",
  });
}
