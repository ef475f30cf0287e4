/** Our server with a tracer on all its threads, and clients whose requests can be told apart in the trace. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, realpath, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Test } from "tap";
import { RunningProgram, type Teardown } from "../../support/program.js";
import type { Transmission } from "../client/transmission.js";
import { CMD, CMD_FLAG } from "../client/wire.js";
import { Target } from "../conformance/target.js";
import { DurableOrder, type SentRequest } from "./durable-order.js";
import { parseTrace, type SystemCall } from "./system-calls.js";

const CALLS =
  "fdatasync,fsync,pwrite64,pwritev,pwritev2,fallocate,sendmsg,sendto,write,writev,recvmsg,recvfrom,read,readv";
const SIZE_BYTES = 16 << 20;
const PIECE_BYTES = 512;
const COOKIE_BASE = 0xc0de_0000_0000_0000n;

export interface TraceOptions {
  readonly args?: readonly string[];
  /** Runs the server with these around it. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** strace stays out of the server's way until it is attached; then it sees everything. */
async function attachTracer(
  t: Teardown,
  processId: number,
  outputPath: string,
): Promise<() => Promise<void>> {
  const args = [
    "-f",
    "-xx",
    "-y",
    "-s",
    "8192",
    "-e",
    `trace=${CALLS}`,
    "-o",
    outputPath,
    "-p",
    String(processId),
  ];
  const tracer = spawn("strace", args, { stdio: ["ignore", "ignore", "pipe"] });
  t.teardown(() => void tracer.kill("SIGKILL"));
  const ended = once(tracer, "close");
  await new Promise<void>((resolve, reject) => {
    let said = "";
    tracer.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes("attached")) resolve();
    });
    tracer.once("close", () => reject(new Error(said)));
  });
  return async () => {
    tracer.kill("SIGINT");
    await ended;
  };
}

/** One client's requests, each write at a place of its own. */
class TellingClient {
  readonly sent: SentRequest[] = [];
  readonly #client: Transmission;
  readonly #number: number;
  #count = 0;

  constructor(client: Transmission, number: number) {
    this.#client = client;
    this.#number = number;
  }

  async work(rounds: number): Promise<void> {
    for (let round = 0; round < rounds; round += 1) {
      await Promise.all([
        this.#write(CMD.WRITE),
        this.#write(CMD.WRITE),
        this.#write(CMD.WRITE_ZEROES),
      ]);
      await this.#flush();
      await Promise.all([
        this.#write(CMD.WRITE, CMD_FLAG.FUA),
        this.#write(CMD.WRITE),
        this.#flush(),
      ]);
      await this.#write(round % 2 === 0 ? CMD.WRITE_ZEROES : CMD.TRIM, CMD_FLAG.FUA);
    }
  }

  async #write(command: number, flags = 0): Promise<void> {
    const { cookie, offset } = this.#next();
    this.sent.push({ kind: "write", cookie, offset, isFua: flags !== 0 });
    const payload = Buffer.alloc(PIECE_BYTES, 0x61);
    const what = command === CMD.WRITE ? { payload } : { length: PIECE_BYTES };
    await this.#ask({ command, offset, flags, cookie, ...what });
  }

  async #flush(): Promise<void> {
    const { cookie } = this.#next();
    this.sent.push({ kind: "flush", cookie, offset: 0, isFua: false });
    await this.#ask({ command: CMD.FLUSH, cookie });
  }

  async #ask(request: Parameters<Transmission["request"]>[0]): Promise<void> {
    const { error } = await this.#client.request(request);
    if (error !== 0) throw new Error(`request fails with ${error}`);
  }

  #next(): { readonly cookie: bigint; readonly offset: number } {
    this.#count += 1;
    const number = this.#number * 1000 + this.#count;
    return { cookie: COOKIE_BASE + BigInt(number), offset: number * 4096 };
  }
}

export interface Traced {
  readonly calls: readonly SystemCall[];
  readonly requests: readonly SentRequest[];
  readonly diskPath: string;
  /** As the server names it. */
  readonly engine: string;
}

/** Serves a disk, lets three clients write, flush and write with FUA, and answers what the tracer saw. */
export async function traceServer(
  t: Test,
  directory: string,
  name: string,
  options: TraceOptions = {},
): Promise<Traced> {
  const diskPath = join(await realpath(directory), `${name}.raw`);
  await writeFile(diskPath, "");
  await truncate(diskPath, SIZE_BYTES);
  const socket = join(directory, `${name}.sock`);
  const track = ["track", "--disk", diskPath, "--socket", socket, ...(options.args ?? [])];
  const running = await startIn(options.environment ?? {}, () =>
    RunningProgram.start(t, track, /Ctrl-C/),
  );
  const target = await Target.of(`nbd+unix:///?socket=${socket}`);
  const clients = await Promise.all([0, 1, 2].map(async () => target.go(await target.handshake())));
  const telling = clients.map((client, number) => new TellingClient(client, number));
  const tracePath = join(directory, `${name}.trace`);
  const stopTracer = await attachTracer(t, running.processId, tracePath);
  await Promise.all(telling.map((client) => client.work(6)));
  await stopTracer();
  for (const client of clients) client.destroy();
  await running.stop();
  const calls = parseTrace(await readFile(tracePath, "utf8"));
  const engine = /I\/O by ([^.]+)/.exec(running.stdout)?.[1] ?? "";
  return { calls, engine, requests: telling.flatMap(({ sent }) => sent), diskPath };
}

/** RunningProgram hands its own environment on. */
async function startIn<T>(
  environment: Readonly<Record<string, string>>,
  start: () => Promise<T>,
): Promise<T> {
  const before = { ...process.env };
  Object.assign(process.env, environment);
  try {
    return await start();
  } finally {
    for (const name of Object.keys(environment)) {
      if (before[name] === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = before[name];
    }
  }
}

export function orderOf({ calls, diskPath, requests }: Traced): DurableOrder {
  return new DurableOrder(calls, diskPath, requests);
}
