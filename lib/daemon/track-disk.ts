import { once } from "node:events";
import type { TrackOptions, TrackState } from "../cli/local-commands.js";
import { TidemarkError } from "../model/errors.js";
import { activatedSockets } from "../tracking/activated-sockets.js";
import { backingOf, isNbdUri, openBacking } from "../tracking/disk-backing.js";
import { NbdServer, type NbdServerOptions } from "../tracking/nbd-server.js";
import { TrackedDisk } from "../tracking/tracked-disk.js";
import { attendTls, loadTrackTls } from "./track-tls.js";
import { watchDurability } from "./watch-durability.js";

type Serve = (
  options: TrackOptions,
  place: NbdServerOptions,
  onReady: (state: TrackState) => void,
  untilEnd: (server: NbdServer) => Promise<void>,
) => Promise<void>;

/** `tidemark track`: one disk over NBD, tracked or (for comparison) not. */
export async function trackDisk(
  options: TrackOptions,
  signal: AbortSignal,
  onReady: (state: TrackState) => void,
  onNotice: (line: string) => void,
): Promise<void> {
  const place = placeOf(options);
  const { tlsDirectory, allowedClients } = options;
  const serve: Serve = options.tracking ? (...all) => serveTracked(...all, onNotice) : servePlain;
  if (tlsDirectory === null) {
    await serve(options, place, onReady, () => aborted(signal));
    return;
  }
  const load = () => loadTrackTls(tlsDirectory, allowedClients);
  await serve(options, { ...place, tls: await load() }, onReady, async (server) => {
    using _attended = attendTls(server, load, onNotice);
    await aborted(signal);
  });
}

async function serveTracked(
  options: TrackOptions,
  place: NbdServerOptions,
  onReady: (state: TrackState) => void,
  untilEnd: (server: NbdServer) => Promise<void>,
  onNotice: (line: string) => void,
): Promise<void> {
  const bitmapPath = options.bitmapPath ?? bitmapPathOf(options.diskPath);
  await using disk = await TrackedDisk.open({
    path: options.diskPath,
    bitmapPath,
    direct: options.direct,
    durability: options.durability,
    ...(options.sharedStorage === null ? {} : { sharedStorage: options.sharedStorage }),
    ...(options.granularityBytes === null ? {} : { granularityBytes: options.granularityBytes }),
  });
  using _watch = watchDurability([disk], onNotice);
  const server = await disk.serve(place);
  checkReach(server, options);
  onReady({
    uri: server.uriOf(""),
    sizeBytes: disk.sizeBytes,
    bitmapPath,
    granularityBytes: disk.granularityBytes,
    ioEngine: disk.native.engine,
    foundCauses: disk.foundCauses,
  });
  await untilEnd(server);
}

async function servePlain(
  options: TrackOptions,
  place: NbdServerOptions,
  onReady: (state: TrackState) => void,
  untilEnd: (server: NbdServer) => Promise<void>,
): Promise<void> {
  const backing = backingOf(options.diskPath);
  const device = await openBacking(
    backing.kind === "file" ? { ...backing, direct: options.direct } : backing,
  );
  await using server = await NbdServer.start({ ...place, acceptsAtOnce: false });
  checkReach(server, options);
  server.addExport("", device, { description: options.diskPath });
  server.accept();
  const { sizeBytes, engine } = device;
  onReady({
    uri: server.uriOf(""),
    sizeBytes,
    bitmapPath: null,
    granularityBytes: null,
    ioEngine: engine,
    foundCauses: [],
  });
  await untilEnd(server);
}

function bitmapPathOf(diskPath: string): string {
  if (!isNbdUri(diskPath)) return `${diskPath}.tidemark`;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot track ${diskPath}: because its bitmap needs a file of its own.`,
    { hint: "Name one with --bitmap." },
  );
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
  if (options.allowedClients.length > 0 && options.tlsDirectory === null) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "Cannot allow clients by name: because without TLS they show no certificate.",
      { hint: "Give --tls-dir too." },
    );
  }
  if (socketPath !== null) return { socketPath };
  const host = listenHost ?? "";
  const isPlain = options.tlsDirectory === null;
  if (isPlain && !isLoopback(host) && !options.allowPlain) throw beyondLoopback(host);
  return { host, port: listenPort };
}

/** For a socket that was handed over: its address is known once it is served. */
function checkReach(server: NbdServer, options: TrackOptions): void {
  const { address } = server;
  const isPlain = options.tlsDirectory === null;
  if (address.startsWith("unix:") || options.allowPlain || !isPlain) return;
  const host = address.slice(0, address.lastIndexOf(":")).replace(/^\[(.*)\]$/, "$1");
  if (!isLoopback(host)) throw beyondLoopback(host);
}

function beyondLoopback(host: string): TidemarkError {
  return new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot serve on ${host}: because the connection would be unencrypted beyond loopback.`,
    {
      hint: "Use TLS with --tls-dir, or a loopback address; --allow-plain only if the network is yours alone.",
    },
  );
}

function isLoopback(address: string): boolean {
  return address === "::1" || address.startsWith("127.");
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, "abort");
}
