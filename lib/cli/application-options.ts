/** The options that make points application-consistent. */
import { resolve } from "node:path";
import type { Command } from "commander";
import type { RouteBodyInput } from "../management/routes.js";
import { parseDurationMs } from "./context.js";

export interface ApplicationOptions {
  readonly appConsistent?: string;
  readonly freezeScript?: string;
  readonly thawScript?: string;
  readonly freezeLimit?: string;
}

type ApplicationSettings = Pick<
  RouteBodyInput<"vmSettings">,
  "applicationConsistentEveryMs" | "freezeScript" | "thawScript" | "frozenLimitMs"
>;

export function addApplicationOptions(command: Command): Command {
  return command
    .option(
      "--app-consistent <duration>",
      "a point with the applications at rest, 1s to 24h; or off",
    )
    .option("--freeze-script <path>", "run as PATH freeze VM, to bring the applications to rest")
    .option("--thaw-script <path>", "run as PATH thaw VM, to let them go on")
    .option("--freeze-limit <duration>", "the longest that they are at rest, 1s to 60s");
}

/** Only what was given. */
export function applicationSettingsOf(options: ApplicationOptions): ApplicationSettings {
  const { appConsistent, freezeScript, thawScript, freezeLimit } = options;
  const everyMs = () => (appConsistent === "off" ? null : parseDurationMs(appConsistent ?? ""));
  return {
    ...(appConsistent === undefined ? {} : { applicationConsistentEveryMs: everyMs() }),
    ...(freezeScript === undefined ? {} : { freezeScript: resolve(freezeScript) }),
    ...(thawScript === undefined ? {} : { thawScript: resolve(thawScript) }),
    ...(freezeLimit === undefined ? {} : { frozenLimitMs: parseDurationMs(freezeLimit) }),
  };
}
