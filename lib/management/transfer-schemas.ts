/** Settings of relationships and of what they share, as they travel over the management API. */
import { z } from "zod";
import { WEEKDAYS } from "../model/local-time.js";
import { MAX_COMPRESSION_LEVEL, PRIORITIES } from "../model/relationship-settings.js";

const MAX_WINDOWS = 50;

/** "https://host:port", nothing behind it. */
export const replicaUrl = z
  .url({ protocol: /^https$/, error: "is not of the form https://HOST:PORT" })
  .refine((text) => {
    const url = new URL(text);
    return url.pathname === "/" && url.search === "" && url.username === "";
  }, "is not of the form https://HOST:PORT");

/** "http://host:port"; the connection's TLS goes through it, end to end. */
export const proxyUrl = z.url({ protocol: /^http$/, error: "is not of the form http://HOST:PORT" });

export const intervalMs = z.number().int().min(1000).max(86_400_000);

const timeOfDay = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, "is not a time like 22:00");

/** Slower lines than this would hold segments until they time out. */
const bytesPerSecond = z.number().int().min(8192).nullable();

export const throttle = z.strictObject({
  /** Outside of the windows; null: no limit. */
  bytesPerSecond,
  /** In the host's time zone; the first that is open decides. */
  windows: z
    .array(
      z.strictObject({
        days: z.array(z.enum(WEEKDAYS)).min(1).max(7).readonly(),
        from: timeOfDay,
        /** Past midnight when it is before `from`. */
        to: timeOfDay,
        bytesPerSecond,
      }),
    )
    .max(MAX_WINDOWS)
    .readonly()
    .default([]),
});

/** "off", "adaptive", or zstd's level. */
export const compression = z.union([
  z.enum(["off", "adaptive"]),
  z.number().int().min(1).max(MAX_COMPRESSION_LEVEL),
]);

export const priority = z.enum(PRIORITIES);

/** When suspect blocks are compared with the replica. */
export const resyncPolicy = z.discriminatedUnion("mode", [
  z.strictObject({ mode: z.literal("automatic") }),
  z.strictObject({ mode: z.literal("manual") }),
  z.strictObject({ mode: z.literal("window"), from: timeOfDay, to: timeOfDay }),
]);

/** Epoch milliseconds, at most 7 days from now; null: when it is started by hand. */
export const initialStartAtMs = z.number().int().nonnegative().nullable();

const script = z.string().min(1).max(4096).regex(/^\//, "is not an absolute path");

/** Application-consistent points, and what makes them. */
export const applicationSettings = {
  /** As often; null: none is. */
  applicationConsistentEveryMs: intervalMs.nullable(),
  /** Programs of this host, run with the service's rights: `SCRIPT freeze VM`, `SCRIPT thaw VM`. */
  freezeScript: script.nullable(),
  thawScript: script.nullable(),
  /** At most so long from the begin of a freeze to that of its thaw. */
  frozenLimitMs: z.number().int().min(1000).max(60_000),
};

/** What is left out stays as it is. */
export const vmSettingsRequest = z.strictObject({
  /** Another address of the same replica. */
  replicaUrl: replicaUrl.exactOptional(),
  /** Null: none any more. */
  proxyUrl: proxyUrl.nullable().exactOptional(),
  intervalMs: intervalMs.exactOptional(),
  isContinuous: z.boolean().exactOptional(),
  compression: compression.exactOptional(),
  priority: priority.exactOptional(),
  throttle: throttle.nullable().exactOptional(),
  resync: resyncPolicy.exactOptional(),
  /** Blocks that are rewritten with what the replica holds do not travel. */
  skipUnchanged: z.boolean().exactOptional(),
  applicationConsistentEveryMs: applicationSettings.applicationConsistentEveryMs.exactOptional(),
  freezeScript: applicationSettings.freezeScript.exactOptional(),
  thawScript: applicationSettings.thawScript.exactOptional(),
  frozenLimitMs: applicationSettings.frozenLimitMs.exactOptional(),
});

export const initialStartRequest = z.strictObject({
  /** Default: now. */
  startAtMs: initialStartAtMs.unwrap().optional(),
});

const parallelSegments = z.number().int().min(1).max(64);
const parallelRelationships = z.number().int().min(1).max(10_000);

export const transferSettings = z.object({
  throttle: throttle.nullable(),
  parallelSegments,
  parallelCycles: parallelRelationships,
  parallelCopies: parallelRelationships,
});

/** What is left out stays as it is. */
export const transferSettingsRequest = z.strictObject({
  throttle: throttle.nullable().exactOptional(),
  parallelSegments: parallelSegments.exactOptional(),
  parallelCycles: parallelRelationships.exactOptional(),
  parallelCopies: parallelRelationships.exactOptional(),
});
