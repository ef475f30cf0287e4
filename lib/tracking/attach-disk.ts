import { TidemarkError, toTidemarkError } from "../model/errors.js";
import {
  ATTACHMENTS_DIRECTORY,
  type AttachmentKind,
  AttachmentPlace,
  type AttachmentRecord,
  identify,
} from "./attachment-record.js";
import { binding, type NativeDevice } from "./binding.js";
import { fuseLoop } from "./fuse-loop.js";
import type { KernelDevice, KernelDevices, KernelDeviceSettings } from "./kernel-device.js";
import { kernelNbd } from "./kernel-nbd.js";
import { NbdServer } from "./nbd-server.js";

export interface AttachOptions {
  /** Default "auto": the kernel's NBD client, or where the kernel has none, FUSE and a loop device. */
  readonly kind?: AttachmentKind | "auto";
  /** "/dev/nbdN". Default: any that is free. */
  readonly devicePath?: string;
  /** Connections between kernel and server. Default 2. */
  readonly connectionCount?: number;
  /** The device's logical block size, 512 to 4096. Default 512. */
  readonly blockBytes?: number;
  /** When the kernel gives a request up on its connection and sends it again. Default 30 s. */
  readonly requestLimitMs?: number;
  /** How long I/O waits for a new server when the old one is gone. Default 5 min. */
  readonly reconnectLimitMs?: number;
  /** Where attachments are noted. Default /run/tidemark/attach. */
  readonly directory?: string;
}

const KINDS: Readonly<Record<AttachmentKind, KernelDevices>> = { nbd: kernelNbd, loop: fuseLoop };

/** A disk as a block device of this machine. */
export class AttachedDevice implements AsyncDisposable {
  readonly devicePath: string;
  readonly kind: AttachmentKind;
  /** Whether a former process had attached it and it was found again. */
  readonly isResumed: boolean;
  readonly #disk: AttachedDisk;
  readonly #device: KernelDevice;
  readonly #server: NbdServer;
  readonly #place: AttachmentPlace;
  readonly #onEnd: (attached: AttachedDevice) => void;
  #resizing: Promise<void> = Promise.resolve();
  #hasEnded = false;

  constructor(
    disk: AttachedDisk,
    device: KernelDevice,
    server: NbdServer,
    place: AttachmentPlace,
    isResumed: boolean,
    onEnd: (attached: AttachedDevice) => void,
  ) {
    this.devicePath = device.devicePath;
    this.kind = device.kind;
    this.isResumed = isResumed;
    this.#disk = disk;
    this.#device = device;
    this.#server = server;
    this.#place = place;
    this.#onEnd = onEnd;
  }

  /** For the disk alone, which has grown: so does the device, if its kind can. */
  async resized(): Promise<void> {
    // One after another, each with the size of then: no older one may win.
    const resizing = this.#resizing.then(async () => {
      if (!this.#hasEnded) await this.#device.resize?.(this.#disk.native.sizeBytes);
    });
    this.#resizing = resizing.catch(() => undefined);
    await resizing;
  }

  /** Flushes the device and takes it away. IN_USE while something is mounted on it. */
  async detach(): Promise<void> {
    if (this.#hasEnded) return;
    await this.#device.detach();
    await this.#end();
    await this.#place.remove();
  }

  /**
   * Stops serving and leaves the device, mounted or not: its I/O waits until the
   * disk is attached again, up to `reconnectLimitMs`, then fails.
   */
  async release(): Promise<void> {
    if (this.#hasEnded) return;
    await this.#device.release();
    await this.#end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.detach();
  }

  async #end(): Promise<void> {
    this.#hasEnded = true;
    await this.#server.close();
    this.#onEnd(this);
  }
}

/** What is attached: a device of the data plane, and what it is called. */
export interface AttachedDisk {
  readonly native: NativeDevice;
  readonly diskId: string;
  readonly path: string;
}

/** Attaches it, or finds the device again that a former process has left. */
export async function attachDisk(
  disk: AttachedDisk,
  options: AttachOptions,
  onEnd: (attached: AttachedDevice) => void,
): Promise<AttachedDevice> {
  requireRoot();
  const settings = settingsOf(options);
  const place = new AttachmentPlace(options.directory ?? ATTACHMENTS_DIRECTORY, disk.diskId);
  try {
    await place.create();
    const server = await NbdServer.start({
      socketPath: place.socket,
      forKernelClient: true,
      acceptsAtOnce: false,
    });
    try {
      server.addExport("", disk.native, { description: disk.path });
      server.accept();
      const record = await place.read();
      const resumed = await resume(place, disk, settings, record);
      const device = resumed ?? (await connect(place, disk, settings, options.kind ?? "auto"));
      await place.write(await recordOf(disk, device));
      return new AttachedDevice(disk, device, server, place, resumed !== null, onEnd);
    } catch (thrown) {
      await server.close();
      throw thrown;
    }
  } catch (thrown) {
    throw toTidemarkError(thrown);
  }
}

async function resume(
  place: AttachmentPlace,
  disk: AttachedDisk,
  settings: KernelDeviceSettings,
  record: AttachmentRecord | null,
): Promise<KernelDevice | null> {
  const found =
    (await kernelNbd.resume(place, disk.diskId, settings, record)) ??
    (await fuseLoop.resume(place, disk.diskId, settings, record));
  const { devicePath } = settings;
  if (found === null || devicePath === null || found.devicePath === devicePath) return found;
  await found.release();
  throw new TidemarkError(
    "IN_USE",
    `Cannot attach the disk as ${devicePath}: because it is attached as ${found.devicePath}.`,
    { hint: `Detach it first: tidemark detach ${found.devicePath}` },
  );
}

async function connect(
  place: AttachmentPlace,
  disk: AttachedDisk,
  settings: KernelDeviceSettings,
  kind: AttachmentKind | "auto",
): Promise<KernelDevice> {
  if (kind !== "auto") return KINDS[kind].connect(place, disk.diskId, settings);
  const hasNbd = await binding.probeKernelNbd().then(
    () => true,
    () => false,
  );
  return KINDS[hasNbd ? "nbd" : "loop"].connect(place, disk.diskId, settings);
}

async function recordOf(disk: AttachedDisk, device: KernelDevice): Promise<AttachmentRecord> {
  const owner = await identify(process.pid);
  if (owner === null) throw new TidemarkError("INTERNAL", "Cannot read /proc.");
  const { kind, devicePath, fuse } = device;
  return { version: 1, kind, devicePath, diskPath: disk.path, diskId: disk.diskId, owner, fuse };
}

function requireRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new TidemarkError(
    "FORBIDDEN",
    "Cannot attach a disk as a block device: because only root may.",
    { hint: "Run it as root." },
  );
}

function settingsOf(options: AttachOptions): KernelDeviceSettings {
  const settings: KernelDeviceSettings = {
    devicePath: options.devicePath ?? null,
    connectionCount: options.connectionCount ?? 2,
    blockBytes: options.blockBytes ?? 512,
    requestLimitMs: options.requestLimitMs ?? 30_000,
    reconnectLimitMs: options.reconnectLimitMs ?? 300_000,
  };
  const { connectionCount, blockBytes, requestLimitMs, reconnectLimitMs } = settings;
  const refuse = (what: string) => {
    throw new TidemarkError("INVALID_ARGUMENT", `Cannot attach the disk: because ${what}.`);
  };
  if (!Number.isInteger(connectionCount) || connectionCount < 1 || connectionCount > 16) {
    refuse("connectionCount is not 1 to 16");
  }
  if (![512, 1024, 2048, 4096].includes(blockBytes)) {
    refuse("blockBytes is not 512, 1024, 2048 or 4096");
  }
  if (!(requestLimitMs >= 1000) || !(reconnectLimitMs >= 1000)) {
    refuse("its limits are under a second");
  }
  return settings;
}
