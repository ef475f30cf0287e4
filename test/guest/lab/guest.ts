import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeInitramfs } from "./initramfs.js";
import { GuestKernel } from "./kernel.js";
import { requireProgram } from "./programs.js";
import { type RootContent, rootImage } from "./root-image.js";

export interface GuestOptions extends Partial<RootContent> {
  /** Run by busybox sh in /job; its exit status is the guest's. */
  readonly job: string;
  /** Files beside the job, by name. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  /** Default 256. */
  readonly memoryMib?: number;
  /** Virtual processors. Default 1. */
  readonly cpus?: number;
  /** The guest is killed after it. Default 200 s: it shares the processors with other tests. */
  readonly limitMs?: number;
  /** More of QEMU's arguments: disks (the root is /dev/vda), QMP, a network. */
  readonly qemu?: readonly string[];
}

export interface GuestResult {
  /** The job's exit status; null when it never came to one (limit, panic). */
  readonly status: number | null;
  readonly isTimedOut: boolean;
  /** All that the guest wrote to its console. */
  readonly output: string;
}

const DEFAULT_LIMIT_MS = 200_000;
const OUTPUT_MAX_CHARACTERS = 1 << 22;

/** No guest outlives the test that started it. */
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** Boots, runs the job, powers off. */
export async function runGuest(options: GuestOptions): Promise<GuestResult> {
  const guest = await Guest.start(options);
  return guest.ended;
}

/** A real Linux in QEMU, emulated without KVM. */
export class Guest implements AsyncDisposable {
  readonly ended: Promise<GuestResult>;
  readonly #child: ChildProcess;
  readonly #directory: string;
  #output = "";
  #isTimedOut = false;
  #onOutput: (() => void)[] = [];

  private constructor(child: ChildProcess, directory: string, limitMs: number) {
    this.#child = child;
    this.#directory = directory;
    running.add(child);
    child.stdout?.setEncoding("utf8").on("data", (text: string) => this.#take(text));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => this.#take(text));
    this.ended = this.#untilEnd(limitMs);
  }

  static async start(options: GuestOptions): Promise<Guest> {
    const kernel = await GuestKernel.get();
    const { programs = [], modules = [], withProject = false } = options;
    const image = await rootImage(kernel, { programs, modules, withProject });
    const directory = await mkdtemp(join(tmpdir(), "tidemark-guest-"));
    const initramfs = join(directory, "initramfs");
    await writeInitramfs(initramfs, kernel, { script: options.job, files: options.files ?? {} });
    const child = spawn(
      await requireProgram("qemu-system-x86_64"),
      [...machine(kernel, image, directory, options), ...(options.qemu ?? [])],
      { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, TMPDIR: directory } },
    );
    return new Guest(child, directory, options.limitMs ?? DEFAULT_LIMIT_MS);
  }

  get output(): string {
    return this.#output;
  }

  /** A line for whoever reads the console in the guest. */
  say(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  /** Waits until the console shows it; fails when the guest ends before. */
  async until(pattern: RegExp): Promise<void> {
    const ended = this.ended.then(() => true);
    while (!pattern.test(this.#output)) {
      const more = new Promise<boolean>((resolve) => this.#onOutput.push(() => resolve(false)));
      if ((await Promise.race([ended, more])) && !pattern.test(this.#output)) {
        throw new Error(`The guest ended before it showed ${pattern}:\n${this.#output}`);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.ended;
  }

  #take(text: string): void {
    this.#output = (this.#output + text.replaceAll("\r", "")).slice(-OUTPUT_MAX_CHARACTERS);
    for (const wake of this.#onOutput.splice(0)) wake();
  }

  async #untilEnd(limitMs: number): Promise<GuestResult> {
    const timer = setTimeout(() => {
      this.#isTimedOut = true;
      this.#child.kill("SIGKILL");
    }, limitMs);
    try {
      await once(this.#child, "close");
      const report = await readFile(join(this.#directory, "status"), "utf8").catch(() => "");
      const status = /status (\d+)/.exec(report)?.[1];
      return {
        status: status === undefined ? null : Number(status),
        isTimedOut: this.#isTimedOut,
        output: this.#output,
      };
    } finally {
      clearTimeout(timer);
      running.delete(this.#child);
      await rm(this.#directory, { recursive: true, force: true });
    }
  }
}

function machine(
  kernel: GuestKernel,
  image: string,
  directory: string,
  { memoryMib = 256, cpus = 1 }: GuestOptions,
): string[] {
  // Emulation alone: /dev/kvm may be there and not run a stock kernel. Without
  // rdrand the kernel has no entropy, and everything waits for it.
  const plain = `-accel tcg -M q35 -cpu qemu64,+rdrand -m ${memoryMib} -smp ${cpus}
    -nodefaults -display none -no-reboot -serial stdio`.split(/\s+/);
  return plain.concat(
    "-serial",
    `file:${join(directory, "status")}`,
    "-kernel",
    kernel.image,
    "-initrd",
    join(directory, "initramfs"),
    "-append",
    "console=ttyS0 panic=-1 quiet",
    "-drive",
    `if=none,id=root,format=raw,snapshot=on,cache=unsafe,file=${image}`,
    "-device",
    "virtio-blk-pci,drive=root",
  );
}
