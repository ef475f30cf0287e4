import { createConnection, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { eventually } from "./loopback-host.js";

export interface MonitorAnswer {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

/** QEMU's machine monitor (QMP): one command after another. */
export class QemuMonitor {
  readonly #socket: Socket;
  readonly #lines: AsyncIterator<string>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  }

  /** Waits until QEMU listens there. */
  static async connect(socketPath: string): Promise<QemuMonitor> {
    const monitor = await eventually("QEMU's monitor", async () => {
      const socket = createConnection(socketPath);
      const isOpen = await new Promise((resolve) => {
        socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
      });
      return isOpen === true && new QemuMonitor(socket);
    });
    await monitor.run("qmp_capabilities");
    return monitor;
  }

  async run(command: string, args: object = {}): Promise<MonitorAnswer> {
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done === true) throw new Error("QEMU has gone");
      const answer = JSON.parse(String(value)) as MonitorAnswer;
      if ("return" in answer || "error" in answer) return answer;
    }
  }

  end(): void {
    this.#socket.end();
  }
}
