import { TidemarkError } from "../model/errors.js";
import { binding, type ImageLock, type NativeDevice } from "./binding.js";

/** Where a disk's content is. */
export type DiskBacking =
  | {
      readonly kind: "file";
      /** A raw image file or a block device. */
      readonly path: string;
      /** Past the page cache (O_DIRECT). Default false. */
      readonly direct?: boolean;
      /** In QEMU's own convention for images. Default "exclusive". */
      readonly lock?: ImageLock;
    }
  | {
      readonly kind: "nbd";
      /** `nbd://HOST[:PORT]/EXPORT` or `nbd+unix:///EXPORT?socket=PATH`, percent-encoded. */
      readonly uri: string;
      /** At most so many, 1 to 16; one where the server does not promise that they agree. Default 4. */
      readonly connections?: number;
      /** How long a request waits while the server is away, before it fails; 0 for ever. Default 30 s. */
      readonly reconnectLimitMs?: number;
    }
  | {
      /** Zeroes at first, and gone with the process. */
      readonly kind: "memory";
      readonly sizeBytes: number;
    };

const DEFAULT_CONNECTIONS = 4;
const MAX_CONNECTIONS = 16;
const DEFAULT_RECONNECT_LIMIT_MS = 30_000;
const MAX_RECONNECT_LIMIT_MS = 2 ** 31 - 1;

/** As users name a disk in one word: a URI, else a path. */
export function backingOf(place: string): DiskBacking {
  return isNbdUri(place) ? { kind: "nbd", uri: place } : { kind: "file", path: place };
}

export function isNbdUri(place: string): boolean {
  return /^nbds?(\+[a-z]+)?:\/\//.test(place);
}

/** One word for people: the path, the URI, or "memory". */
export function placeOf(backing: DiskBacking): string {
  if (backing.kind === "file") return backing.path;
  return backing.kind === "nbd" ? backing.uri : "memory";
}

export async function openBacking(backing: DiskBacking): Promise<NativeDevice> {
  switch (backing.kind) {
    case "file":
      return binding.openFileDevice(
        backing.path,
        false,
        backing.direct ?? false,
        backing.lock ?? "exclusive",
      );
    case "nbd":
      return openUpstream(backing);
    case "memory":
      return openMemory(backing.sizeBytes);
  }
}

async function openUpstream(backing: DiskBacking & { kind: "nbd" }): Promise<NativeDevice> {
  const connections = backing.connections ?? DEFAULT_CONNECTIONS;
  requireWhole(connections, 1, MAX_CONNECTIONS, "the number of connections");
  const reconnectLimitMs = backing.reconnectLimitMs ?? DEFAULT_RECONNECT_LIMIT_MS;
  requireWhole(reconnectLimitMs, 0, MAX_RECONNECT_LIMIT_MS, "reconnectLimitMs");
  return binding.openNbdDevice(backing.uri, connections, false, reconnectLimitMs);
}

function openMemory(sizeBytes: number): NativeDevice {
  requireWhole(sizeBytes, 1, 2 ** 47, "the size in bytes");
  return binding.memoryDevice(sizeBytes);
}

function requireWhole(value: number, least: number, most: number, what: string): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot open the disk: because ${what} is not a whole number from ${least} to ${most}.`,
  );
}
