import { createConnection, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { z } from "zod";
import { BenchError } from "./bench-error.js";

const message = z.object({
  return: z.unknown().optional(),
  error: z.object({ desc: z.string() }).optional(),
  event: z.string().optional(),
  data: z.record(z.string(), z.unknown()).optional(),
});
type Message = z.infer<typeof message>;

/** QEMU's machine protocol (QMP): one command after another, events kept until they are asked for. */
export class QemuMonitor {
  readonly #socket: Socket;
  readonly #lines: AsyncIterator<string>;
  #events: Message[] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  }

  static async connect(socketPath: string): Promise<QemuMonitor> {
    const socket = createConnection(socketPath);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve).once("error", reject);
    });
    const monitor = new QemuMonitor(socket);
    await monitor.run("qmp_capabilities");
    return monitor;
  }

  async run(command: string, args: object = {}): Promise<unknown> {
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    for (;;) {
      const next = await this.#next();
      if (next.error !== undefined) {
        throw new BenchError(`Cannot run QEMU's ${command}: because ${next.error.desc}.`);
      }
      if (next.event === undefined && next.return !== undefined) return next.return;
      if (next.event !== undefined) this.#events.push(next);
    }
  }

  /** Until the job has that status. */
  async untilJob(jobId: string, status: string): Promise<void> {
    for (;;) {
      const event = this.#events.shift() ?? (await this.#next());
      if (event.data?.["id"] === jobId && event.data["status"] === status) return;
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  async #next(): Promise<Message> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new BenchError("Cannot go on: because QEMU has gone.");
    return message.parse(JSON.parse(String(value)));
  }
}
