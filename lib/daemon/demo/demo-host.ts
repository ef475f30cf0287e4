import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { apiSocketPath } from "../../cli/context.js";
import { ApiClient } from "../../management/api-client.js";
import { TidemarkError } from "../../model/errors.js";
import { DEFAULT_RETENTION } from "../../replica/retention-policy.js";
import { issueCertificate } from "../../security/pki.js";
import { HostPaths, writeConfiguration } from "../host-configuration.js";

const PROGRAM = fileURLToPath(new URL("../../../bin/tidemark.js", import.meta.url));
const STOP_LIMIT_MS = 15_000;

/** A Tidemark host of the demonstration: a process of its own, reached through its API alone. */
export class DemoHost implements AsyncDisposable {
  readonly api: ApiClient;
  readonly #process: ChildProcess;

  private constructor(child: ChildProcess, api: ApiClient) {
    this.#process = child;
    this.api = api;
  }

  static async start(
    directory: string,
    name: string,
    caDirectory: string,
    isReplica: boolean,
  ): Promise<DemoHost> {
    const paths = new HostPaths(join(directory, name));
    await writeConfiguration(paths, {
      version: 1,
      hostName: name,
      peers: { host: "127.0.0.1", port: 0 },
      replicaRoot: isReplica ? "replica" : null,
      // It may run for hours: the replica stays at some GiB.
      retention: { tiers: [...DEFAULT_RETENTION.tiers], maxPoints: 50 },
    });
    await issueCertificate(caDirectory, ["localhost", "127.0.0.1"], { outputDirectory: paths.pki });
    const child = spawn(process.execPath, [PROGRAM, "--dir", paths.directory, "host", "start"], {
      stdio: ["ignore", "pipe", "inherit"],
      // Ctrl-C reaches the whole foreground group; the hosts end when the story says so.
      detached: true,
    });
    await readyLine(child, name);
    return new DemoHost(child, new ApiClient(apiSocketPath(paths.directory)));
  }

  async close(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), STOP_LIMIT_MS);
    await exited;
    clearTimeout(timer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function readyLine(child: ChildProcess, name: string): Promise<void> {
  const exited = once(child, "exit").then(() => {
    throw new TidemarkError("INTERNAL", `Host ${name} ended before it was ready.`);
  });
  const ready = new Promise<void>((resolve) => {
    child.stdout?.on("data", (chunk: Buffer) => {
      if (chunk.toString().includes("is ready")) resolve();
    });
  });
  await Promise.race([ready, exited]);
  exited.catch(() => undefined);
}
