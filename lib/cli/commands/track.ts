import { Command, Option } from "commander";
import { DURABILITIES, type Durability } from "../../model/durability.js";
import { globalOptions, parseDurationMs, parseWholeNumber } from "../context.js";
import type { LocalCommands, TrackOptions, TrackState } from "../local-commands.js";
import { formatBytes, printJson } from "../output.js";
import { parseListen } from "../parse-listen.js";
import { untilSignal } from "../until-signal.js";

interface Options {
  readonly disk: string;
  readonly socket?: string;
  readonly listen?: string;
  readonly allowPlain?: boolean;
  readonly tlsDir?: string;
  readonly tlsAllow?: string[];
  readonly bitmap?: string;
  readonly tracking: boolean;
  readonly granularity?: string;
  readonly direct?: boolean;
  readonly durability: Durability;
  readonly shared?: boolean;
  readonly takeOver?: boolean;
  readonly lease?: string;
}

export function trackCommand(local: LocalCommands): Command {
  return new Command("track")
    .description(
      "serve one disk over NBD and track its changes, without a host; on a socket that systemd hands over, if it does",
    )
    .requiredOption("--disk <path|uri>", "a raw image, a block device, or an NBD URI")
    .option("--socket <path>", "serve on this Unix socket")
    .option("--listen <address:port>", "serve on this address; beyond loopback with --tls-dir only")
    .option(
      "--tls-dir <dir>",
      "require TLS and a certificate of the same CA: host.crt, host.key, ca.crt of `pki issue`; SIGHUP loads them anew",
    )
    .option(
      "--tls-allow <name...>",
      "let in only clients of these names; *.example.com for all under it",
    )
    .option("--allow-plain", "serve unencrypted beyond loopback all the same")
    .option(
      "--bitmap <path>",
      "the dirty bitmap's file (default: the disk's path with .tidemark appended; required for a URI)",
    )
    .option("--granularity <bytes>", "bytes a bit stands for, for a new bitmap")
    .option("--direct", "past the page cache (O_DIRECT)")
    .addOption(
      new Option(
        "--durability <mode>",
        "what the marks survive: the end of the power too, or of the process alone",
      )
        .choices(DURABILITIES)
        .default("power-safe"),
    )
    .option("--shared", "the image is on storage that other hosts see: write only while it is ours")
    .option("--take-over", "with --shared: also when its former owner hangs or is out of reach")
    .option("--lease <duration>", "with --shared: how long an owner out of reach may go on (10s)")
    .option("--no-tracking", "serve the disk without tracking, for comparison")
    .action((options: Options, command: Command) => serveUntilSignal(local, options, command));
}

async function serveUntilSignal(
  local: LocalCommands,
  options: Options,
  command: Command,
): Promise<void> {
  const { json } = globalOptions(command);
  const request = trackOptions(options);
  await untilSignal((signal) =>
    local.track(
      request,
      signal,
      (state) => (json ? printJson(state) : describe(state)),
      (line) => process.stderr.write(`tidemark: ${line}\n`),
    ),
  );
}

function trackOptions(options: Options): TrackOptions {
  const listen = options.listen === undefined ? null : parseListen(options.listen);
  return {
    diskPath: options.disk,
    socketPath: options.socket ?? null,
    listenHost: listen?.host ?? null,
    listenPort: listen?.port ?? 0,
    allowPlain: options.allowPlain ?? false,
    tlsDirectory: options.tlsDir ?? null,
    allowedClients: options.tlsAllow ?? [],
    bitmapPath: options.bitmap ?? null,
    tracking: options.tracking,
    direct: options.direct ?? false,
    sharedStorage: sharedStorageOf(options),
    durability: options.durability,
    granularityBytes:
      options.granularity === undefined
        ? null
        : parseWholeNumber(options.granularity, "a granularity in bytes"),
  };
}

function sharedStorageOf({ shared, takeOver, lease }: Options): TrackOptions["sharedStorage"] {
  if (shared !== true) return null;
  const leaseMs = lease === undefined ? {} : { leaseMs: parseDurationMs(lease) };
  return { takeOver: takeOver ?? false, ...leaseMs };
}

function describe(state: TrackState): void {
  const tracking =
    state.bitmapPath === null
      ? "not tracked"
      : `changes marked in ${state.bitmapPath} (${formatBytes(state.granularityBytes ?? 0)} a block)`;
  const suspicion =
    state.foundCauses.length === 0
      ? ""
      : `Nobody knows what of the disk changed (${state.foundCauses.join(", ")}): what is suspect counts as changed until it was compared.\n`;
  process.stdout.write(
    `Serving ${formatBytes(state.sizeBytes)} at ${state.uri}\n${suspicion}${tracking}; I/O by ${state.ioEngine}. Ctrl-C stops.\n`,
  );
}
