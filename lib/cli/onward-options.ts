/** The options of commands that replicate a VM to a host beside its first replica. */
import type { Command } from "commander";
import type { RouteBodyInput } from "../management/routes.js";
import { parsePeerUrl } from "./parse-peer-url.js";
import { parseTimeMs } from "./parse-time.js";
import { type ReplicationOptions, settingsOf } from "./replication-options.js";

export interface OnwardOptions extends ReplicationOptions {
  readonly to: string;
  readonly proxy?: string;
  readonly initial: string;
  readonly takeOver?: true;
}

/** Which host that is, "the third host", is the command's to say. */
export function addOnwardOptions(command: Command, host: string): Command {
  return command
    .requiredOption("--to <url>", `${host}: its name, HOST:PORT, or https://HOST:PORT`)
    .option("--proxy <url>", "a proxy on the way that knows CONNECT, http://HOST:PORT")
    .option("--initial <how>", "the first copy: now, +8h, 2026-11-23T22:00 or manual", "now")
    .option(
      "--take-over",
      `${host} has a replica of the VM by another primary: become its primary; only what differs travels`,
    );
}

export function onwardRequestOf(options: OnwardOptions): RouteBodyInput<"vmExtend"> {
  const { to, proxy, initial, takeOver } = options;
  return {
    replicaUrl: parsePeerUrl(to),
    takesOver: takeOver ?? false,
    ...settingsOf(options),
    ...(proxy === undefined ? {} : { proxyUrl: proxy }),
    ...(initial === "now"
      ? {}
      : { initialStartAtMs: initial === "manual" ? null : parseTimeMs(initial) }),
  };
}
