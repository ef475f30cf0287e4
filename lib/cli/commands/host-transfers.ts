import { Command } from "commander";
import { clientOf, globalOptions, parseWholeNumber } from "../context.js";
import { printJson } from "../output.js";
import { formatThrottle, parseThrottle } from "../parse-throttle.js";

interface Options {
  readonly throttle?: readonly string[];
  readonly parallelSegments?: string;
  readonly parallelCycles?: string;
  readonly parallelCopies?: string;
}

export function hostTransfersCommand(): Command {
  return new Command("transfers")
    .description("show, or change, what all replications of this host share")
    .option(
      "--throttle <rule...>",
      'of all together: bytes a second like 20MiB, or unlimited; windows like "mon-fri 08:00-18:00 2MiB"',
    )
    .option("--parallel-segments <count>", "segments on their way to one replica at once, 1 to 64")
    .option(
      "--parallel-cycles <count>",
      "VMs, or groups, of one replica that are cut and sent at once",
    )
    .option(
      "--parallel-copies <count>",
      "first copies and resynchronizations with one replica at once",
    )
    .action(async (options: Options, command: Command) => {
      const client = clientOf(command);
      const change = changeOf(options);
      const settings =
        Object.keys(change).length === 0
          ? await client.call("transferSettings", {})
          : await client.call("transferSettingsChange", change);
      if (globalOptions(command).json) return printJson(settings);
      const { throttle, parallelSegments, parallelCycles, parallelCopies } = settings;
      process.stdout.write(
        `Throttle: ${throttle === null ? "unlimited" : formatThrottle(throttle)}\n` +
          `At once: ${parallelSegments} segments, ${parallelCycles} cycles, ${parallelCopies} copies\n`,
      );
    });
}

function changeOf({ throttle, parallelSegments, parallelCycles, parallelCopies }: Options) {
  const counts = { parallelSegments, parallelCycles, parallelCopies };
  const given = Object.entries(counts).flatMap(([name, text]) =>
    text === undefined ? [] : [[name, parseWholeNumber(text, "a number at once")] as const],
  );
  return {
    ...(Object.fromEntries(given) as Partial<Record<keyof typeof counts, number>>),
    ...(throttle === undefined ? {} : { throttle: parseThrottle(throttle) }),
  };
}
