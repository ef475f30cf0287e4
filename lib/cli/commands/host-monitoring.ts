import { Command } from "commander";
import { TidemarkError } from "../../model/errors.js";
import { clientOf, globalOptions, parseDurationMs } from "../context.js";
import { formatDuration, printJson } from "../output.js";

export function hostMonitoringCommand(): Command {
  return new Command("monitoring")
    .description("show or set the monitoring interval, by which statistics are counted")
    .option("--interval <duration>", "1h to 168h; 12h at first")
    .option("--start <time>", "when one begins, HH:MM local time; 09:00 at first")
    .action(async (options: { interval?: string; start?: string }, command: Command) => {
      const set = await clientOf(command).call("monitoringSet", {
        ...(options.interval === undefined
          ? {}
          : { intervalMs: parseDurationMs(options.interval) }),
        ...(options.start === undefined ? {} : { startMinutes: parseTime(options.start) }),
      });
      if (globalOptions(command).json) return printJson(set);
      const minutes = String(set.startMinutes % 60).padStart(2, "0");
      process.stdout.write(
        `Monitoring intervals of ${formatDuration(set.intervalMs)}, from ${Math.floor(set.startMinutes / 60)}:${minutes} on.\n`,
      );
    });
}

/** Minutes after midnight. */
function parseTime(text: string): number {
  const match = /^([01]?\d|2[0-3]):([0-5]\d)$/.exec(text);
  if (match !== null) return Number(match[1]) * 60 + Number(match[2]);
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot use ${JSON.stringify(text)} as a time: because it is not like 09:00.`,
  );
}
