import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { NativeDevice } from "./binding.js";
import { Checkpoint, type CheckpointDisk, type CheckpointOptions, cutDisks } from "./checkpoint.js";
import { NbdServer, type NbdExportOptions, type NbdServerOptions } from "./nbd-server.js";
import { targetIdOf } from "./target-id.js";
import type { TrackedDisk } from "./tracked-disk.js";

export interface BackupOptions
  extends Pick<
    CheckpointOptions,
    "drainLimitMs" | "captureMemoryBytes" | "spillPath" | "spillBytes"
  > {
  /**
   * "disk" (default): all of it can be read as it was, so that a client may read
   * whatever it likes, and compare. "changes": only what the bitmap has; fewer blocks are
   * copied before they are overwritten, and a read of any other fails.
   */
  readonly scope?: "disk" | "changes";
}

/** One disk of a backup: as it was at the cut, and which of its blocks the bitmap had. */
export class BackupDisk {
  readonly disk: TrackedDisk;
  readonly sizeBytes: number;
  readonly changedBytes: number;
  readonly #checkpoint: CheckpointDisk;
  readonly #device: NativeDevice;

  constructor(checkpoint: CheckpointDisk, device: NativeDevice) {
    this.disk = checkpoint.disk;
    this.sizeBytes = device.sizeBytes;
    this.changedBytes = checkpoint.changedBytes;
    this.#checkpoint = checkpoint;
    this.#device = device;
  }

  /** A read-only device of the data plane, for modules of this package. */
  get native(): NativeDevice {
    return this.#device;
  }

  /** Ascending; each at most `maxExtentBytes` long (default 1 MiB). */
  changedExtents(maxExtentBytes?: number): Generator<{ offsetBytes: number; lengthBytes: number }> {
    return this.#checkpoint.changedExtents(maxExtentBytes);
  }

  /** The content at the cut. */
  async read(offsetBytes: number, into: Uint8Array): Promise<void> {
    try {
      await this.#device.read(offsetBytes, into);
    } catch (thrown) {
      throw toTidemarkError(thrown);
    }
  }
}

interface ExportPlace {
  readonly server: NbdServer;
  readonly name: string;
}

/**
 * Disks as they were at one instant, for a consumer outside Tidemark, with the
 * blocks that changed since its last commit. It reads them (over NBD: serve()), makes
 * its copy durable, and then ends this: with commit(), which forgets those changes,
 * or abandon(), after which they count again. In this order nothing depends on
 * whether the answer to commit() arrived: the next backup's changes fit on top of
 * the copy either way. Disposing of one that has not ended abandons it, and so does
 * the end of the process.
 */
export class Backup implements AsyncDisposable {
  readonly bitmap: string;
  readonly takenAtMs: number;
  /** How long writes waited for the cut. */
  readonly pauseNs: number;
  readonly disks: readonly BackupDisk[];
  readonly #checkpoint: Checkpoint;
  readonly #exports: ExportPlace[] = [];
  readonly #servers: NbdServer[] = [];
  #isEnding = false;

  constructor(bitmap: string, checkpoint: Checkpoint, disks: readonly BackupDisk[]) {
    this.bitmap = bitmap;
    this.takenAtMs = checkpoint.cut.takenAtMs;
    this.pauseNs = checkpoint.cut.pauseNs;
    this.disks = disks;
    this.#checkpoint = checkpoint;
  }

  /**
   * Why nothing of it can be relied upon any more, or null. Its reads fail then, and
   * so does commit(); abandon it and begin another, with more room for what is
   * overwritten meanwhile.
   */
  brokenReason(): string | null {
    return this.#checkpoint.brokenReason();
  }

  /**
   * Adds a disk to a server, read-only, until the backup ends; with it
   * "qemu:dirty-bitmap:NAME", the blocks of exactly this backup.
   */
  addExport(server: NbdServer, name: string, diskIndex = 0, options: NbdExportOptions = {}): void {
    this.#requireOpen();
    const disk = this.disks[diskIndex];
    if (disk === undefined) {
      throw new TidemarkError("NOT_FOUND", `Cannot export disk ${diskIndex}: there is none.`);
    }
    const description = options.description ?? `${disk.disk.path} for ${this.bitmap}`;
    server.addExport(name, disk.native, { ...options, description, readOnly: true });
    this.#exports.push({ server, name });
  }

  /** On a server of its own: one disk as the default export, several as "0", "1", ... */
  async serve(options: NbdServerOptions): Promise<NbdServer> {
    this.#requireOpen();
    const server = await NbdServer.start({ ...options, acceptsAtOnce: false });
    this.#servers.push(server);
    const isOne = this.disks.length === 1;
    for (const index of this.disks.keys()) {
      this.addExport(server, isOne ? "" : String(index), index);
    }
    server.accept();
    return server;
  }

  /** The copy is durable where it belongs: these changes are forgotten. CAPTURE_BROKEN: it cannot be whole. */
  async commit(): Promise<void> {
    this.#requireOpen();
    this.#requireWhole();
    await this.#end(() => this.#checkpoint.commit());
  }

  /** There is no copy: the changes count again. */
  async abandon(): Promise<void> {
    this.#requireOpen();
    await this.#end(() => this.#checkpoint.rollback());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isEnding) await this.abandon();
  }

  /** Committed or abandoned, or neither could be done: then its changes count again. */
  get hasEnded(): boolean {
    return this.#isEnding;
  }

  #requireOpen(): void {
    if (!this.#isEnding) return;
    throw new TidemarkError("CLOSED", "Cannot use the backup: because it has ended.");
  }

  #requireWhole(): void {
    const reason = this.brokenReason();
    if (reason === null) return;
    throw new TidemarkError("CAPTURE_BROKEN", `Cannot commit the backup: because ${reason}.`, {
      hint: "Abandon it and begin another; what changed counts until one is committed.",
    });
  }

  /** Its clients first, so that none reads from a capture that is gone. */
  async #end(decide: () => Promise<void>): Promise<void> {
    this.#isEnding = true;
    for (const { server, name } of this.#exports) await removeExport(server, name);
    for (const server of this.#servers) await server.close();
    for (const disk of this.disks) await disk.native.close();
    try {
      await decide();
    } catch (thrown) {
      // What was not forgotten by then counts again; else no backup could follow.
      for (const { disk } of this.disks) {
        await disk.native.giveBack(disk.slotOf(this.bitmap)).catch(() => undefined);
      }
      throw thrown;
    }
  }
}

/** A server that was closed has no exports any more. */
async function removeExport(server: NbdServer, name: string): Promise<void> {
  try {
    await server.removeExport(name);
  } catch (thrown) {
    const { code } = toTidemarkError(thrown);
    if (code !== "CLOSED" && code !== "NOT_FOUND") throw thrown;
  }
}

/** Cuts the disks at one instant. NOT_FOUND: a disk has no such bitmap; IN_USE: its last backup is open. */
export async function beginBackup(
  disks: readonly TrackedDisk[],
  bitmap: string,
  options: BackupOptions = {},
): Promise<Backup> {
  const { scope = "disk", ...limits } = options;
  for (const disk of disks) disk.requireBitmap(bitmap);
  const parts = [{ disks, target: bitmap, options: limits }];
  const [share] = await cutDisks(parts, { wholeDisk: scope === "disk" });
  if (share === undefined) throw new TidemarkError("INTERNAL", "Cannot cut: no answer.");
  const { cut, members } = share;
  const checkpoint = new Checkpoint(targetIdOf(bitmap), cut, members, []);
  const devices = members.map(({ capture }) => capture.device(bitmap));
  const backupDisks = checkpoint.disks.map((disk, index) => {
    const device = devices[index];
    if (device === undefined) throw new TidemarkError("INTERNAL", "Cannot read a disk: no device.");
    return new BackupDisk(disk, device);
  });
  return new Backup(bitmap, checkpoint, backupDisks);
}
