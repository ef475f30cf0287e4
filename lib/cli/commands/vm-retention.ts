import { Command } from "commander";
import type { RetentionRequest, RetentionStatus } from "../../management/retention-schemas.js";
import { clientOf, globalOptions, parseWholeNumber } from "../context.js";
import { formatBytes, printJson } from "../output.js";
import { parseSize } from "../parse-size.js";
import { formatTier, parseTier } from "../parse-tier.js";

interface Options {
  readonly keep?: readonly string[];
  readonly points?: string;
  readonly quota?: string;
  readonly default?: boolean;
}

export function vmRetentionCommand(): Command {
  return new Command("retention")
    .description("show or change which recovery points of a VM are kept (on the replica)")
    .argument("<vm>", "its name or id")
    .option("--keep <tier...>", "how far back and how densely: 1h:all 1d:5m 1w:1h")
    .option("--points <count>", "at most that many, however young")
    .option("--quota <size>", "the room that its replica may take, as 200GiB; none")
    .option("--default", "as the host's settings say; other options are added to that")
    .action(async (vm: string, options: Options, command: Command) => {
      const client = clientOf(command);
      const { json, dir: _, ...given } = { ...globalOptions(command), ...options };
      const present = await client.call("retentionStatus", {}, { vm });
      const isChange = Object.keys(given).length > 0;
      const own = options.default === true ? {} : present.own;
      const status = isChange
        ? await client.call("retentionSet", { ...own, ...requestOf(options) }, { vm })
        : present;
      if (json) return printJson(status);
      printRetention(status);
    });
}

function requestOf({ keep, points, quota }: Options): RetentionRequest {
  return {
    ...(keep === undefined ? {} : { tiers: keep.map(parseTier) }),
    ...(points === undefined ? {} : { maxPoints: parseWholeNumber(points, "a number of points") }),
    ...(quota === undefined
      ? {}
      : { quotaBytes: quota === "none" ? null : parseSize(quota).bytes }),
  };
}

function printRetention(status: RetentionStatus): void {
  const { tiers, maxPoints, quotaBytes, own, pointCount, storedBytes, warnings } = status;
  const whose = (key: keyof RetentionRequest) =>
    own[key] === undefined ? "the host's" : "its own";
  const lines = [
    `Keeps ${tiers.map(formatTier).join(" ")} (${whose("tiers")})`,
    `At most ${maxPoints} points (${whose("maxPoints")}); there are ${pointCount}`,
    `Quota ${quotaBytes === null ? "none" : formatBytes(quotaBytes)} (${whose("quotaBytes")}); ${formatBytes(storedBytes)} stored`,
    ...warnings.map((warning) => `Warning: ${warning}`),
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}
