import type { AttachmentPlace, AttachmentRecord, ProcessIdentity } from "./attachment-record.js";

/** How long the kernel, and what stands in for it, waits. */
export interface KernelDeviceSettings {
  /** "/dev/nbdN"; null takes any that is free. */
  readonly devicePath: string | null;
  readonly connectionCount: number;
  readonly blockBytes: number;
  readonly requestLimitMs: number;
  readonly reconnectLimitMs: number;
}

/**
 * A block device of this machine's kernel over the NBD server at a place's
 * socket. Two kinds: the kernel's NBD client, and a loop device over FUSE.
 */
export interface KernelDevice {
  readonly kind: AttachmentRecord["kind"];
  readonly devicePath: string;
  readonly fuse: ProcessIdentity | null;
  /** It has that size from then on, mounted or not; null where it cannot grow. */
  readonly resize: ((sizeBytes: number) => Promise<void>) | null;
  /** Flushes it and takes it away. IN_USE while it is mounted: then nothing has changed. */
  detach(): Promise<void>;
  /** Lets go of it: it stays, and waits for the next server at the same socket. */
  release(): Promise<void>;
}

export interface KernelDevices {
  /** Makes a device. */
  connect(
    place: AttachmentPlace,
    diskId: string,
    settings: KernelDeviceSettings,
  ): Promise<KernelDevice>;
  /** The one that a former process left behind; null when there is none. */
  resume(
    place: AttachmentPlace,
    diskId: string,
    settings: KernelDeviceSettings,
    record: AttachmentRecord | null,
  ): Promise<KernelDevice | null>;
  /** Takes it away although nobody serves it: what was not written is lost. */
  drop(place: AttachmentPlace, record: AttachmentRecord): Promise<void>;
}
