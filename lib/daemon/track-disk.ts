import { once } from "node:events";
import type { TrackOptions, TrackState } from "../cli/local-commands.js";
import { TidemarkError } from "../model/errors.js";
import { activatedSockets } from "../tracking/activated-sockets.js";
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
    ...(options.granularityBytes === null ? {} : { granularityBytes: options.granularityBytes }),
  });
  const server = await disk.serve(place);
  checkReach(server, options);
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
  const device = await binding.openFileDevice(options.diskPath, false, false);
  await using server = await NbdServer.start(place);
  checkReach(server, options);
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
  const [activated, ...more] = activatedSockets();
  if (activated !== undefined && more.length === 0 && socketPath === null && listenHost === null) {
    return { listenFd: activated.fd };
  }
  if ((socketPath === null) === (listenHost === null) || activated !== undefined) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "Cannot serve the disk: because it needs either --socket or --listen, or one socket handed over by systemd.",
    );
  }
  if (socketPath !== null) return { socketPath };
  const host = listenHost ?? "";
  if (!isLoopback(host) && !options.allowPlain) throw beyondLoopback(host);
  return { host, port: listenPort };
}

/** For a socket that was handed over: its address is known once it is served. */
function checkReach(server: NbdServer, options: TrackOptions): void {
  const { address } = server;
  if (address.startsWith("unix:") || options.allowPlain) return;
  const host = address.slice(0, address.lastIndexOf(":")).replace(/^\[(.*)\]$/, "$1");
  if (!isLoopback(host)) throw beyondLoopback(host);
}

function beyondLoopback(host: string): TidemarkError {
  return new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot serve on ${host}: because the connection would be unencrypted beyond loopback.`,
    {
      hint: "Use a loopback address, or --allow-plain if the network is yours alone.",
    },
  );
}

function isLoopback(address: string): boolean {
  return address === "::1" || address.startsWith("127.");
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, "abort");
}
