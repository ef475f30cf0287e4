import type { DailyWindow } from "./local-time.js";
import type { Throttle } from "./throttle.js";

export const MAX_COMPRESSION_LEVEL = 19;

/** zstd's level, 1 to 19; "adaptive": the one that the line and the processor ask for. */
export type Compression = "off" | "adaptive" | number;

/** Who goes first where relationships of a host wait for each other. */
export const PRIORITIES = ["low", "normal", "high"] as const;
export type Priority = (typeof PRIORITIES)[number];

/** When suspect blocks are compared with the replica. */
export type ResyncPolicy =
  | { readonly mode: "automatic" }
  /** When an administrator says so. */
  | { readonly mode: "manual" }
  /** Every day between these, in the host's time zone. */
  | ({ readonly mode: "window" } & DailyWindow);

export interface RelationshipSettings {
  readonly vmId: string;
  /** UUID of this target in the VM's bitmaps. */
  readonly targetId: string;
  /** Of one of the VM's further targets, unique among them. Absent: the VM's first one. */
  readonly targetName?: string | undefined;
  /** "https://host:port". */
  readonly replicaUrl: string;
  readonly intervalMs: number;
  /** A cycle begins as soon as something changed and the last one has ended; at the latest after the interval. */
  readonly isContinuous: boolean;
  readonly compression: Compression;
  readonly priority: Priority;
  /** Beside the host's own; null: no limit. */
  readonly throttle: Throttle | null;
  readonly resync: ResyncPolicy;
  /** Blocks that are rewritten with what the replica holds do not travel. */
  readonly skipUnchanged: boolean;
  /** As often a point is application-consistent; null: none is. */
  readonly applicationConsistentEveryMs: number | null;
  /** Programs of this host that bring the VM's applications to rest, and let them go on. */
  readonly freezeScript: string | null;
  readonly thawScript: string | null;
  /** At most so long from the begin of a freeze to that of its thaw. */
  readonly frozenLimitMs: number;
  /** "http://host:port": connections to the replica are made through its CONNECT. */
  readonly proxyUrl?: string | undefined;
  /** The consistency group that the VM is cut with. */
  readonly group?: string | undefined;
}

type Identity = "vmId" | "targetId" | "replicaUrl" | "intervalMs";

/** As they are given when replication is enabled; the rest has defaults. */
export type NewRelationshipSettings = Pick<RelationshipSettings, Identity> &
  Partial<Omit<RelationshipSettings, Identity>>;

/** What may change while the relationship runs. */
export type SettingsChange = Partial<
  Omit<RelationshipSettings, "vmId" | "targetId" | "targetName" | "group">
>;

/** Names a relationship on its host: the VM's id for its first target, else the target's. */
export function relationshipIdOf({
  vmId,
  targetId,
  targetName,
}: Pick<RelationshipSettings, "vmId" | "targetId" | "targetName">): string {
  return targetName === undefined ? vmId : targetId;
}

export const DEFAULT_FROZEN_LIMIT_MS = 10_000;

const DEFAULTS = {
  isContinuous: false,
  compression: 1,
  priority: "normal",
  throttle: null,
  resync: { mode: "automatic" },
  skipUnchanged: false,
  applicationConsistentEveryMs: null,
  freezeScript: null,
  thawScript: null,
  frozenLimitMs: DEFAULT_FROZEN_LIMIT_MS,
} as const satisfies Partial<RelationshipSettings>;

export function withDefaults(settings: NewRelationshipSettings): RelationshipSettings {
  return { ...DEFAULTS, ...settings };
}

/** As noted by this version or by the one before, which knew levels only. */
export function readSettings(
  noted: NewRelationshipSettings & { readonly compressionLevel?: number },
): RelationshipSettings {
  const { compressionLevel, ...settings } = noted;
  return withDefaults(
    compressionLevel === undefined ? settings : { compression: compressionLevel, ...settings },
  );
}
