import { Command, Option } from "commander";
import { globalOptions, parseDurationMs, parseWholeNumber } from "../context.js";
import type { AttachState, LocalCommands } from "../local-commands.js";
import { formatBytes, formatDuration, printJson } from "../output.js";
import { untilSignal } from "../until-signal.js";

interface Options {
  readonly disk: string;
  readonly bitmap?: string;
  readonly kind: "auto" | "nbd" | "loop";
  readonly device?: string;
  readonly connections?: string;
  readonly requestLimit?: string;
  readonly reconnectLimit?: string;
}

export function attachCommand(local: LocalCommands): Command {
  return new Command("attach")
    .description("give a disk, tracked, as a block device of this machine")
    .requiredOption("--disk <path>", "a raw image or block device")
    .option(
      "--bitmap <path>",
      "the dirty bitmap's file (default: the disk's path with .tidemark appended)",
    )
    .addOption(
      new Option("--kind <kind>", "the kernel's NBD client, or FUSE and a loop device")
        .choices(["auto", "nbd", "loop"])
        .default("auto"),
    )
    .option("--device <path>", "which /dev/nbdN (default: one that is free)")
    .option("--connections <count>", "between kernel and server (default: 2)")
    .option("--request-limit <duration>", "when a request is sent again (default: 30s)")
    .option(
      "--reconnect-limit <duration>",
      "how long I/O waits when this process is gone (default: 5m)",
    )
    .action(async (options: Options, command: Command) => {
      const { json } = globalOptions(command);
      const duration = (text: string | undefined) =>
        text === undefined ? null : parseDurationMs(text);
      await untilSignal((signal) =>
        local.attach(
          {
            diskPath: options.disk,
            bitmapPath: options.bitmap ?? null,
            kind: options.kind,
            devicePath: options.device ?? null,
            connectionCount:
              options.connections === undefined
                ? null
                : parseWholeNumber(options.connections, "a number of connections"),
            requestLimitMs: duration(options.requestLimit),
            reconnectLimitMs: duration(options.reconnectLimit),
          },
          signal,
          (state) => (json ? printJson(state) : describe(state, options)),
        ),
      );
    });
}

function describe(state: AttachState, { disk, kind }: Options): void {
  const { devicePath } = state;
  if (state.event === "detached") return write(`${devicePath} is detached.`);
  if (state.event === "released") {
    const limit = formatDuration(state.reconnectLimitMs);
    write(`${devicePath} is in use, so it stays: its I/O waits up to ${limit}, then fails.`);
    return write(`To go on: tidemark attach --disk ${disk}`);
  }
  const again = state.isResumed ? " again: what was mounted on it goes on" : "";
  write(`${disk} (${formatBytes(state.sizeBytes)}) is ${devicePath}${again}.`);
  if (kind === "auto" && state.kind === "loop") {
    write("The kernel's nbd is not loaded: FUSE and a loop device stand in, slower.");
    write("For the better way: modprobe nbd, then attach again.");
  }
  write(`Changes are marked in ${state.bitmapPath}. Ctrl-C detaches.`);
}

function write(line: string): void {
  process.stdout.write(`${line}\n`);
}
