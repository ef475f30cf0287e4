import { mkdir, readFile, writeFile } from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";
import { z } from "zod";
import { DURABILITIES } from "../model/durability.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";

const configuration = z.strictObject({
  version: z.literal(1),
  hostName: z.string().min(1).max(255),
  peers: z.strictObject({
    /** Numeric address. */
    host: z.string(),
    /** 0: any that is free. */
    port: z.number().int().min(0).max(65_535),
  }),
  /** Where replicas are kept; null: this host accepts none. Relative to the host's directory. */
  replicaRoot: z.string().min(1).nullable(),
  /** Points of a VM that a replica keeps before it merges the oldest. */
  retainPoints: z.number().int().min(1).max(100_000).default(1000),
  /** What the marks of this host's disks survive; with "process-safe" not power loss. */
  durability: z.enum(DURABILITIES).default("power-safe"),
  capture: z
    .strictObject({
      memoryBytes: z.number().int().nonnegative(),
      spillBytes: z.number().int().nonnegative(),
    })
    .default({ memoryBytes: 64 << 20, spillBytes: 2 ** 30 }),
});

export type HostConfiguration = z.infer<typeof configuration>;
export type NewHostConfiguration = z.input<typeof configuration>;

/** Where a host keeps what. */
export class HostPaths {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = resolve(directory);
  }

  get configuration(): string {
    return join(this.directory, "host.json");
  }
  get pki(): string {
    return join(this.directory, "pki");
  }
  get stateDatabase(): string {
    return join(this.directory, "state.db");
  }
  get apiSocket(): string {
    return join(this.directory, "api.sock");
  }
  get nbdSockets(): string {
    return join(this.directory, "nbd");
  }
  get scratch(): string {
    return join(this.directory, "scratch");
  }
  get spill(): string {
    return join(this.directory, "spill");
  }
  get bitmaps(): string {
    return join(this.directory, "bitmaps");
  }
  replicaRoot(configured: string): string {
    return isAbsolute(configured) ? configured : join(this.directory, configured);
  }
}

/** ALREADY_EXISTS: an existing host's configuration is never overwritten. */
export async function writeConfiguration(
  paths: HostPaths,
  value: NewHostConfiguration,
): Promise<void> {
  await mkdir(paths.pki, { recursive: true, mode: 0o700 });
  const text = `${JSON.stringify(configuration.parse(value), null, 2)}\n`;
  try {
    await writeFile(paths.configuration, text, { flag: "wx", mode: 0o600 });
  } catch (thrown) {
    if ((thrown as { code?: unknown }).code !== "EEXIST") throw toTidemarkError(thrown);
    throw new TidemarkError(
      "ALREADY_EXISTS",
      `Cannot write ${paths.configuration}: because it is there already.`,
      {
        hint: "Edit it, or name another directory with --dir.",
      },
    );
  }
}

export async function readConfiguration(paths: HostPaths): Promise<HostConfiguration> {
  let text: string;
  try {
    text = await readFile(paths.configuration, "utf8");
  } catch (cause) {
    throw new TidemarkError(
      "NOT_FOUND",
      `Cannot read ${paths.configuration}: because there is none.`,
      {
        hint: "Make this host's directory with `tidemark host init`, or name another with --dir.",
        cause,
      },
    );
  }
  return parseConfiguration(text, paths.configuration);
}

function parseConfiguration(text: string, path: string): HostConfiguration {
  try {
    const parsed = configuration.safeParse(JSON.parse(text));
    if (parsed.success) return parsed.data;
    const [issue] = parsed.error.issues;
    throw new Error(`${issue?.path.join(".") ?? ""}: ${issue?.message ?? "is invalid"}`);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new TidemarkError("INVALID_ARGUMENT", `Cannot use ${path}: because ${why}.`, {
      hint: "Mend that setting, then start the host again.",
      cause,
    });
  }
}
