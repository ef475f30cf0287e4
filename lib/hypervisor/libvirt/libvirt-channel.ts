import { z } from "zod";
import { TidemarkError } from "../../model/errors.js";
import type { MonitorChannel } from "../qemu/monitor-channel.js";
import type { QmpEvent } from "../qemu/qmp-message.js";
import { refusedCommand } from "../qemu/refused-command.js";
import type { Domain } from "./domain.js";
import { type DomainEvent, DomainEvents } from "./domain-events.js";

const ANSWER = z.union([
  z.object({ error: z.object({ class: z.string(), desc: z.string() }) }),
  z.object({ return: z.unknown() }),
]);
const STATES: Readonly<Record<string, string>> = { Suspended: "STOP", Resumed: "RESUME" };
const ENDS = ["Stopped", "Crashed"];

/** QEMU's monitor, in turn with libvirt's own use of it. */
export class LibvirtChannel implements MonitorChannel {
  readonly ended: Promise<TidemarkError>;
  readonly #domain: Domain;
  readonly #events: DomainEvents;
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  #endReason: TidemarkError | null = null;
  #onEnd: (reason: TidemarkError) => void = () => {};

  private constructor(domain: Domain, events: DomainEvents) {
    this.#domain = domain;
    this.#events = events;
    this.ended = new Promise((resolve) => (this.#onEnd = resolve));
    events.listener = (event) => this.#hear(event);
    void events.ended.then(() => this.#end(lost()));
  }

  static async open(domain: Domain, signal: AbortSignal): Promise<LibvirtChannel> {
    return new LibvirtChannel(domain, await DomainEvents.begin(domain, signal));
  }

  async execute(command: string, args: object, signal: AbortSignal): Promise<unknown> {
    signal.throwIfAborted();
    if (this.#endReason !== null) throw this.#endReason;
    const order = JSON.stringify({ execute: command, arguments: args });
    const text = await this.#domain.virsh.run(
      ["qemu-monitor-command", "--domain", this.#domain.uuid, "--cmd", order],
      signal,
    );
    const answer = answerOf(text);
    if ("error" in answer) throw refusedCommand(command, answer.error.class, answer.error.desc);
    return answer.return;
  }

  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#end(new TidemarkError("CLOSED", "Cannot use the VM: because it was closed."));
    await this.#events.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #hear({ kind, detail }: DomainEvent): void {
    const [state = ""] = detail.split(" ");
    if (kind === "lifecycle" && ENDS.includes(state)) return this.#end(stopped());
    const name = kind === "lifecycle" ? STATES[state] : kind.toUpperCase().replaceAll("-", "_");
    if (name === undefined) return;
    for (const listener of this.#listeners) listener({ kind: "event", name, data: {} });
  }

  #end(reason: TidemarkError): void {
    if (this.#endReason !== null) return;
    this.#endReason = reason;
    this.#onEnd(reason);
  }
}

function answerOf(text: string): z.infer<typeof ANSWER> {
  try {
    return ANSWER.parse(JSON.parse(text));
  } catch (cause) {
    throw new TidemarkError(
      "CORRUPT",
      "Cannot read QEMU's monitor by libvirt: because what it says is not QMP.",
      { hint: 'Check `virsh qemu-monitor-command VM \'{"execute":"query-status"}\'`.', cause },
    );
  }
}

function stopped(): TidemarkError {
  return new TidemarkError("UNREACHABLE", "Cannot control the VM: because it has stopped.", {
    hint: "Start it: `virsh start VM`.",
  });
}

function lost(): TidemarkError {
  return new TidemarkError(
    "IO_ERROR",
    "Cannot control the VM: because the connection to libvirt ended.",
    { hint: "Check libvirt's service, and connect again." },
  );
}
