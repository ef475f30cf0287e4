import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { missingTool, output } from "./program.js";

const PRIMARY_ADDRESS = "10.71.0.1";
export const REPLICA_ADDRESS = "10.71.0.2";
const STORE_BYTES = 2 ** 30;

/** Which packets of the line are dropped; "reset": answered with a reset. */
export type LineFault = "all" | "to the replica" | "to the primary" | "reset";

export async function networkLabIsMissing(): Promise<string | false> {
  if (process.getuid?.() !== 0) return "network namespaces need root";
  const missing = await missingTool(
    "setpriv",
    "unshare",
    "nsenter",
    "ip",
    "nft",
    "mkfs.ext4",
    "mount",
  );
  return missing === null ? false : `${missing} is not installed`;
}

/** A shell that holds a mount and a network namespace of its own, which end with it. */
class Namespace {
  readonly #holder: ChildProcess;

  private constructor(holder: ChildProcess) {
    this.#holder = holder;
  }

  static async start(script: string): Promise<Namespace> {
    const held = `${script}\nip link set lo up\necho ready\nexec sleep infinity`;
    // It ends with the test's process, however that ends.
    const bound = ["--pdeathsig", "KILL", "unshare", "-m", "-n", "sh", "-ec", held];
    const holder = spawn("setpriv", bound, {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const namespace = new Namespace(holder);
    const ended = once(holder, "close").then(() => {
      throw new Error("the namespace could not be made");
    });
    ended.catch(() => undefined);
    await Promise.race([once(holder.stdout, "data"), ended]);
    return namespace;
  }

  get processId(): string {
    return String(this.#holder.pid);
  }

  /** What a command must begin with to run inside. */
  get entry(): readonly string[] {
    return ["nsenter", "-t", this.processId, "-m", "-n", `--wd=${process.cwd()}`];
  }

  async run(...command: readonly string[]): Promise<void> {
    const [nsenter = "", ...rest] = [...this.entry, ...command];
    await output(nsenter, ...rest);
  }

  async close(): Promise<void> {
    if (this.#holder.exitCode !== null || this.#holder.signalCode !== null) return;
    const ended = once(this.#holder, "close");
    this.#holder.kill("SIGKILL");
    await ended;
  }
}

/**
 * Two machines that are only namespaces: a line between them with a packet
 * filter of its own, and a small file system for the replica's store. Nothing of
 * it is to be seen outside, and all of it ends with close().
 */
export class NetworkLab implements AsyncDisposable {
  readonly primary: Namespace;
  readonly replica: Namespace;
  readonly storeDirectory: string;

  private constructor(primary: Namespace, replica: Namespace, storeDirectory: string) {
    this.primary = primary;
    this.replica = replica;
    this.storeDirectory = storeDirectory;
  }

  static async start(directory: string, storeDirectory: string): Promise<NetworkLab> {
    const image = join(directory, "store.image");
    await writeFile(image, "");
    await truncate(image, STORE_BYTES);
    await output("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", image);
    const primary = await Namespace.start("");
    const replica = await Namespace.start(`mount -o loop '${image}' '${storeDirectory}'`);
    const lab = new NetworkLab(primary, replica, storeDirectory);
    await lab.#connect();
    return lab;
  }

  /** Until mendLine(). */
  async breakLine(fault: LineFault): Promise<void> {
    const rules = {
      all: ["input drop", "output drop"],
      "to the replica": ["input drop"],
      "to the primary": ["output drop"],
      reset: ["input meta l4proto tcp reject with tcp reset"],
    }[fault];
    const lines = rules.map((rule) => {
      const [chain = "", ...action] = rule.split(" ");
      const end = chain === "input" ? "iifname" : "oifname";
      return `add rule inet lab ${chain} ${end} line ${action.join(" ")}`;
    });
    await this.replica.run("nft", lines.join("; "));
  }

  async mendLine(): Promise<void> {
    await this.replica.run("nft", "flush chain inet lab input; flush chain inet lab output");
  }

  /** Leaves no byte free in the store's file system. */
  async fillStore(): Promise<void> {
    const fill = 'dd if=/dev/zero of="$1/fill" bs=1M status=none 2>/dev/null || true';
    await this.replica.run("sh", "-c", fill, "sh", this.storeDirectory);
  }

  async emptyStore(): Promise<void> {
    await this.replica.run("rm", "-f", join(this.storeDirectory, "fill"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.primary.close();
    await this.replica.close();
  }

  async #connect(): Promise<void> {
    const { primary, replica } = this;
    const [near, far] = [primary.processId, replica.processId];
    const pair = ["line", "netns", near, "type", "veth", "peer", "name", "line", "netns", far];
    await output("ip", "link", "add", ...pair);
    for (const [side, address] of [
      [primary, PRIMARY_ADDRESS],
      [replica, REPLICA_ADDRESS],
    ] as const) {
      await side.run("ip", "address", "add", `${address}/24`, "dev", "line");
      await side.run("ip", "link", "set", "line", "up");
    }
    const chain = (hook: string) =>
      `add chain inet lab ${hook} { type filter hook ${hook} priority 0; }`;
    await replica.run("nft", ["add table inet lab", chain("input"), chain("output")].join("; "));
  }
}
