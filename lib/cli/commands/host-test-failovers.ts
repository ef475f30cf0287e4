import { Command, Option } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { formatBytes, formatDuration, printJson } from "../output.js";
import { parseSpanMs } from "../parse-span.js";
import { parseLimit } from "../test-failover-options.js";

interface Options {
  readonly for?: string;
  readonly scratch?: string;
  readonly endOnShortage?: "on" | "off";
}

export function hostTestFailoversCommand(): Command {
  return new Command("test-failovers")
    .description("show or set what holds for test failovers that say nothing else")
    .option("--for <duration>", "how long one lasts, like 8h, 2d or forever; 24h at first")
    .option(
      "--scratch <size>",
      "what may be written to one; none: what the floor of free space leaves, as at first",
    )
    .addOption(
      new Option(
        "--end-on-shortage <on|off>",
        "whether want of room for recovery points ends them, the oldest first; off at first",
      ).choices(["on", "off"]),
    )
    .action(async (options: Options, command: Command) => {
      const { for: life, scratch, endOnShortage } = options;
      const set = await clientOf(command).call("testFailoverSettings", {
        ...(life === undefined ? {} : { forMs: life === "forever" ? null : parseSpanMs(life) }),
        ...(scratch === undefined ? {} : { scratchLimitBytes: parseLimit(scratch) }),
        ...(endOnShortage === undefined ? {} : { endOnShortage: endOnShortage === "on" }),
      });
      if (globalOptions(command).json) return printJson(set);
      const lasts = set.forMs === null ? "until it is closed" : formatDuration(set.forMs);
      const limit =
        set.scratchLimitBytes === null
          ? "what the floor of free space leaves"
          : formatBytes(set.scratchLimitBytes);
      process.stdout.write(
        `A test failover lasts ${lasts}, and may take ${limit}. Want of room ${set.endOnShortage ? "ends" : "does not end"} it.\n`,
      );
    });
}
