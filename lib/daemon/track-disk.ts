import { once } from "node:events";
import type { TrackOptions, TrackState } from "../cli/local-commands.js";
import { TidemarkError } from "../model/errors.js";
import { binding } from "../tracking/binding.js";
import { NbdServer, type NbdServerOptions } from "../tracking/nbd-server.js";
import { TrackedDisk } from "../tracking/tracked-disk.js";

/** `tidemark track`: one disk over NBD, tracked or (for comparison) not. */
export async function trackDisk(
  options: TrackOptions,
  signal: AbortSignal,
  onReady: (state: TrackState) => void,
): Promise<void> {
  const place = placeOf(options);
  await (options.tracking ? serveTracked : servePlain)(options, place, signal, onReady);
}

async function serveTracked(
  options: TrackOptions,
  place: NbdServerOptions,
  signal: AbortSignal,
  onReady: (state: TrackState) => void,
): Promise<void> {
  const bitmapPath = options.bitmapPath ?? `${options.diskPath}.tidemark`;
  await using disk = await TrackedDisk.open({
    path: options.diskPath,
    bitmapPath,
    direct: options.direct,
    ...(options.granularityBytes === null ? {} : { granularityBytes: options.granularityBytes }),
  });
  const server = await disk.serve(place);
  onReady({
    uri: server.uriOf(""),
    sizeBytes: disk.sizeBytes,
    bitmapPath,
    granularityBytes: disk.granularityBytes,
    ioEngine: disk.native.engine,
  });
  await aborted(signal);
}

async function servePlain(
  options: TrackOptions,
  place: NbdServerOptions,
  signal: AbortSignal,
  onReady: (state: TrackState) => void,
): Promise<void> {
  const device = await binding.openFileDevice(options.diskPath, false, options.direct, "exclusive");
  await using server = await NbdServer.start(place);
  server.addExport("", device, { description: options.diskPath });
  const { sizeBytes, engine } = device;
  onReady({
    uri: server.uriOf(""),
    sizeBytes,
    bitmapPath: null,
    granularityBytes: null,
    ioEngine: engine,
  });
  await aborted(signal);
}

function placeOf(options: TrackOptions): NbdServerOptions {
  const { socketPath, listenHost, listenPort } = options;
  if ((socketPath === null) === (listenHost === null)) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "Cannot serve the disk: because it needs either --socket or --listen.",
    );
  }
  if (socketPath !== null) return { socketPath };
  const host = listenHost ?? "";
  if (!isLoopback(host) && !options.allowPlain) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot serve on ${host}: because the connection would be unencrypted beyond loopback.`,
      {
        hint: "Use a loopback address, or --allow-plain if the network is yours alone.",
      },
    );
  }
  return { host, port: listenPort };
}

function isLoopback(address: string): boolean {
  return address === "::1" || address.startsWith("127.");
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, "abort");
}
