/** The options of commands that set how a VM is replicated. */
import type { Command } from "commander";
import {
  addApplicationOptions,
  type ApplicationOptions,
  applicationSettingsOf,
} from "./application-options.js";
import type { RouteBodyInput } from "../management/routes.js";
import { TidemarkError } from "../model/errors.js";
import { type Compression, PRIORITIES, type ResyncPolicy } from "../model/relationship-settings.js";
import { parseDurationMs, parseWholeNumber } from "./context.js";
import { parseThrottle } from "./parse-throttle.js";

export interface ReplicationOptions extends ApplicationOptions {
  readonly every?: string;
  readonly compression?: string;
  readonly priority?: string;
  readonly throttle?: readonly string[];
  readonly resync?: string;
  readonly skipUnchanged?: string;
}

type SettingsBody = Omit<RouteBodyInput<"vmSettings">, "replicaUrl" | "proxyUrl">;

/** How often a VM at rest that is replicated continuously is looked at, at least. */
const CONTINUOUS_INTERVAL_MS = 1000;

export function addReplicationOptions(command: Command): Command {
  return addTransferOptions(addApplicationOptions(command));
}

/** Of a replication that is not the primary's: nothing of the VM itself. */
export function addTransferOptions(command: Command): Command {
  return command
    .option("--every <duration>", "the interval of the cycles, 1s to 24h, or continuous")
    .option("--compression <level>", "zstd level, 1 to 19; or off, or adaptive")
    .option("--priority <priority>", PRIORITIES.join(", "))
    .option(
      "--throttle <rule...>",
      'bytes a second like 20MiB, or unlimited; windows like "mon-fri 08:00-18:00 2MiB"',
    )
    .option(
      "--resync <policy>",
      "when suspect blocks are compared: automatic, manual, or daily like 22:00-06:00",
    )
    .option("--skip-unchanged <on|off>", "blocks rewritten with the same content do not travel");
}

/** Only what was given. */
export function settingsOf(options: ReplicationOptions): SettingsBody {
  const { every, compression, priority, throttle, resync, skipUnchanged } = options;
  return {
    ...(every === undefined ? {} : parseRhythm(every)),
    ...(compression === undefined ? {} : { compression: parseCompression(compression) }),
    ...(priority === undefined ? {} : { priority: parsePriority(priority) }),
    ...(throttle === undefined ? {} : { throttle: parseThrottle(throttle) }),
    ...(resync === undefined ? {} : { resync: parseResync(resync) }),
    ...(skipUnchanged === undefined ? {} : { skipUnchanged: parseSwitch(skipUnchanged) }),
    ...applicationSettingsOf(options),
  };
}

function parseRhythm(text: string): { intervalMs: number; isContinuous: boolean } {
  const isContinuous = text === "continuous";
  return {
    intervalMs: isContinuous ? CONTINUOUS_INTERVAL_MS : parseDurationMs(text),
    isContinuous,
  };
}

function parseCompression(text: string): Compression {
  if (text === "off" || text === "adaptive") return text;
  return parseWholeNumber(text, "a compression level");
}

function parsePriority(text: string) {
  const priority = PRIORITIES.find((known) => known === text);
  if (priority !== undefined) return priority;
  throw unusable(text, "a priority", `one of ${PRIORITIES.join(", ")}`);
}

function parseResync(text: string): ResyncPolicy {
  if (text === "automatic" || text === "manual") return { mode: text };
  const [, from, to] = /^(\d\d:\d\d)-(\d\d:\d\d)$/.exec(text) ?? [];
  if (from !== undefined && to !== undefined) return { mode: "window", from, to };
  throw unusable(text, "a resynchronization policy", "automatic, manual or like 22:00-06:00");
}

function parseSwitch(text: string): boolean {
  if (text === "on" || text === "off") return text === "on";
  throw unusable(text, "a switch", "on or off");
}

function unusable(text: string, what: string, expected: string): TidemarkError {
  return new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot use ${JSON.stringify(text)} as ${what}: because it is not ${expected}.`,
  );
}
