import { type Command, Option } from "commander";
import { TidemarkError } from "../model/errors.js";
import type { NewEnd } from "../model/test-failover.js";
import { parseSize } from "./parse-size.js";
import { parseSpanMs } from "./parse-span.js";
import { parseTimeMs } from "./parse-time.js";

export interface TestFailoverOptions {
  readonly for?: string;
  readonly scratch?: string;
  readonly check?: boolean;
  readonly extend?: string;
  readonly until?: string;
  readonly test?: string;
}

/** Of a test failover that is opened, and of one that is open. */
export function addTestFailoverOptions(command: Command): Command {
  const opening = ["for", "scratch", "check", "point"];
  return command
    .option(
      "--for <duration>",
      "how long it lasts, like 8h, 2d or forever; the host's setting says",
    )
    .option("--scratch <size>", "what may be written to it, like 20GiB; the host's setting says")
    .option("--check", "read all of it meanwhile, and hold it against its checksums")
    .addOption(
      new Option("--extend <duration>", "the open one ends so much later").conflicts([
        ...opening,
        "until",
      ]),
    )
    .addOption(
      new Option(
        "--until <time>",
        "the open one ends then, like +4h or 2026-11-23T22:00, or never: forever",
      ).conflicts(opening),
    )
    .option("--test <id>", "which open one, where there are several");
}

/** For the API; what was not said is the host's to say. */
export function testTerms({ for: life, scratch, check = false }: TestFailoverOptions) {
  return {
    ...(life === undefined ? {} : { forMs: life === "forever" ? null : parseSpanMs(life) }),
    ...(scratch === undefined ? {} : { scratchLimitBytes: parseLimit(scratch) }),
    check,
  };
}

/** "none": what the floor of free space leaves. */
export function parseLimit(text: string): number | null {
  return text === "none" ? null : parseSize(text).bytes;
}

/** Null: nothing is to be prolonged. */
export function newEnd({ extend, until }: TestFailoverOptions): NewEnd | null {
  if (extend !== undefined) return { byMs: parseSpanMs(extend) };
  if (until === undefined) return null;
  return { untilMs: until === "forever" ? null : parseTimeMs(until) };
}

/** The one that was named, or the only one. */
export function chooseTest(ids: readonly string[], { test }: TestFailoverOptions): string {
  if (test !== undefined) return test;
  const [only] = ids;
  if (only !== undefined && ids.length === 1) return only;
  throw new TidemarkError(
    only === undefined ? "NOT_FOUND" : "CONFLICT",
    only === undefined
      ? "Cannot prolong a test failover: because none is open."
      : `Cannot tell which test failover is to be prolonged: because ${ids.length} are open.`,
    only === undefined ? {} : { hint: `Name it with --test: ${ids.join(", ")}.` },
  );
}
