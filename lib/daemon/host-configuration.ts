import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { z } from "zod";
import { DURABILITIES } from "../model/durability.js";
import { quotaBytes, retentionPolicy } from "../management/retention-schemas.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { DEFAULT_RETENTION } from "../replica/retention-policy.js";

const defaultRetention = { ...DEFAULT_RETENTION, tiers: [...DEFAULT_RETENTION.tiers] };

const configuration = z.strictObject({
  version: z.literal(1),
  hostName: z.string().min(1).max(255),
  peers: z.strictObject({
    /** Numeric address. */
    host: z.string(),
    /** 0: any that is free. */
    port: z.number().int().min(0).max(65_535),
  }),
  /**
   * Where replicas are kept, relative to the host's directory; null: in "replica", and
   * this host accepts none until its administrator turns that on.
   */
  replicaRoot: z.string().min(1).nullable(),
  /** How old the last verification of a replica may become; 0: it is verified by order only. */
  scrubIntervalMs: z
    .number()
    .int()
    .min(0)
    .default(7 * 86_400_000),
  /** What a verification reads from the storage at most. */
  scrubBytesPerSecond: z
    .number()
    .int()
    .min(1)
    .default(64 << 20),
  /** Which recovery points a replica keeps. */
  retention: retentionPolicy.default(defaultRetention),
  /** Of a VM's replica; null: none. Over it, more is thinned. */
  quotaBytes: quotaBytes.default(null),
  /** Of the replicas' file system: with less free, more is thinned, of all VMs. */
  freeSpaceFloorBytes: z
    .number()
    .int()
    .nonnegative()
    .default(2 ** 30),
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
  get statisticsDatabase(): string {
    return join(this.directory, "statistics.db");
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
  get failovers(): string {
    return join(this.directory, "failovers");
  }
  get spill(): string {
    return join(this.directory, "spill");
  }
  get mediaKeys(): string {
    return join(this.directory, "media-keys");
  }
  get bitmaps(): string {
    return join(this.directory, "bitmaps");
  }
  replicaRoot(configured: string | null): string {
    return resolve(this.directory, configured ?? "replica");
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

/** `retainPoints` was written by every host before there were tiers; its default says nothing. */
function withoutFormerSettings(value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("retainPoints" in value)) return value;
  const { retainPoints, ...settings } = value;
  if (retainPoints === 1000 || "retention" in settings) return settings;
  return { ...settings, retention: { ...DEFAULT_RETENTION, maxPoints: retainPoints } };
}

function parseConfiguration(text: string, path: string): HostConfiguration {
  try {
    const parsed = configuration.safeParse(withoutFormerSettings(JSON.parse(text)));
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
