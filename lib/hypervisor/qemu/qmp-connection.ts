import { once } from "node:events";
import { createConnection, type Socket } from "node:net";
import { TidemarkError, toTidemarkError } from "../../model/errors.js";
import { orAborted } from "../../model/or-aborted.js";
import { QmpLines } from "./qmp-lines.js";
import type { MonitorChannel } from "./monitor-channel.js";
import { qmpMessage, type QmpEvent } from "./qmp-message.js";
import { refusedCommand } from "./refused-command.js";

/** A monitor serves one program; those that come later wait, without a word. */
const GREETING_LIMIT_MS = 5000;

interface Pending {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (reason: TidemarkError) => void;
}

/** QEMU's machine monitor (QMP) on a Unix socket: commands, answered in any order, and events. */
export class QmpConnection implements MonitorChannel {
  /** Resolves, with the reason, when no more commands can be given. */
  readonly ended: Promise<TidemarkError>;
  readonly #socket: Socket;
  readonly #socketPath: string;
  readonly #lines = new QmpLines();
  readonly #pending = new Map<number, Pending>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  #onGreeting = () => {};
  #onEnd: (reason: TidemarkError) => void = () => {};
  #endReason: TidemarkError | null = null;
  #lastId = 0;

  private constructor(socket: Socket, socketPath: string) {
    this.#socket = socket;
    this.#socketPath = socketPath;
    this.ended = new Promise((resolve) => (this.#onEnd = resolve));
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("error", (cause) => this.#end(this.#gone(cause)));
    socket.on("close", () => this.#end(this.#gone()));
  }

  static async connect(socketPath: string, signal: AbortSignal): Promise<QmpConnection> {
    signal.throwIfAborted();
    const socket = createConnection(socketPath);
    const connection = new QmpConnection(socket, socketPath);
    try {
      await connection.#greet(signal);
      await connection.execute("qmp_capabilities", {}, signal);
      return connection;
    } catch (thrown) {
      await connection.close();
      throw thrown;
    }
  }

  /** What the command returns; rejects with QEMU's own words. An abort leaves it to QEMU. */
  async execute(command: string, args: object, signal: AbortSignal): Promise<unknown> {
    signal.throwIfAborted();
    if (this.#endReason !== null) throw this.#endReason;
    this.#lastId += 1;
    const id = this.#lastId;
    const answered = new Promise<unknown>((resolve, reject) => {
      this.#pending.set(id, { command, resolve, reject });
    });
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    try {
      return await orAborted(answered, signal);
    } finally {
      this.#pending.delete(id);
    }
  }

  /** Returns what ends it. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#end(new TidemarkError("CLOSED", "Cannot use QEMU's monitor: because it was closed."));
    if (!this.#socket.closed) await once(this.#socket, "close");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #greet(signal: AbortSignal): Promise<void> {
    const greeted = new Promise<void>((resolve) => (this.#onGreeting = resolve));
    const failed = this.ended.then((reason) => Promise.reject(reason));
    const limit = AbortSignal.timeout(GREETING_LIMIT_MS);
    try {
      const bounded = AbortSignal.any([signal, limit]);
      await orAborted(Promise.race([greeted, failed]), bounded);
    } catch (thrown) {
      if (signal.aborted || !limit.aborted) throw thrown;
      throw new TidemarkError(
        "IN_USE",
        `Cannot control the VM: because nothing greets at ${this.#socketPath}.`,
        { hint: "End the program that is connected there, or give the VM a second QMP monitor." },
      );
    }
  }

  #take(chunk: Buffer): void {
    if (this.#endReason !== null) return;
    try {
      for (const line of this.#lines.push(chunk)) this.#hear(line);
    } catch (thrown) {
      this.#end(toTidemarkError(thrown));
    }
  }

  #hear(line: string): void {
    const message = qmpMessage(line);
    if (message.kind === "greeting") this.#onGreeting();
    else if (message.kind === "event") for (const listener of this.#listeners) listener(message);
    else {
      const pending = message.id === null ? undefined : this.#pending.get(message.id);
      if (message.kind === "answer") pending?.resolve(message.value);
      else
        pending?.reject(refusedCommand(pending.command, message.errorClass, message.description));
    }
  }

  #end(reason: TidemarkError): void {
    if (this.#endReason !== null) return;
    this.#endReason = reason;
    this.#socket.destroy();
    for (const { reject } of this.#pending.values()) reject(reason);
    this.#onEnd(reason);
  }

  #gone(cause?: Error): TidemarkError {
    const why = cause === undefined ? "QEMU has closed its monitor" : cause.message;
    return new TidemarkError(
      "UNREACHABLE",
      `Cannot control the VM at ${this.#socketPath}: because ${why}.`,
      {
        hint: "Check that the VM runs, and was started with -qmp unix:PATH,server=on,wait=off.",
        ...(cause === undefined ? {} : { cause }),
      },
    );
  }
}
