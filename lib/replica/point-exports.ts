import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { PointExport } from "../model/replica-exports.js";
import { binding, type NativeDevice } from "../tracking/binding.js";
import type { NativeScratchBudget } from "../tracking/layer-binding.js";
import { NbdServer } from "../tracking/nbd-server.js";
import { EXPORT_DOCUMENT, type ExportDocument } from "./documents.js";
import { readDocument, writeDocument } from "./durable-document.js";
import { NodeStoreFiles } from "./node-store-files.js";
import { openPointDisk } from "./open-point-disk.js";
import type { OpenedPoint } from "./opened-point.js";
import type { ReplicaStore } from "./replica-store.js";
import { EXPORT_HEADER } from "./store-paths.js";

export interface PointExportsOptions {
  readonly store: ReplicaStore;
  readonly socketDirectory: string;
  /** Holds a directory for each export: what was written to it, and which it is. */
  readonly scratchDirectory: string;
  /** What tests leave free on the file system of the scratches. Default: nothing. */
  readonly freeSpaceFloorBytes?: number;
  /** A failover of before that cannot be served again; what it wrote is kept. */
  readonly onWarning?: (message: string) => void;
}

/** A test failover that the death of the service ended. */
export interface DroppedTest {
  readonly document: ExportDocument;
  readonly scratchBytes: number;
}

/** What an open export uses. */
export interface ExportUsage {
  readonly scratchBytes: number;
  readonly refusedWriteCount: number;
  readonly clientCount: number;
}

interface OpenExport {
  readonly entry: PointExport;
  readonly budget: NativeScratchBudget | undefined;
  readonly point: OpenedPoint;
  readonly server: NbdServer;
  readonly devices: readonly NativeDevice[];
}

/**
 * Recovery points that are open as disks: served over NBD, read-only or writable through
 * a scratch file that closing the export drops. Several at once, of the same
 * point too. A failover's writes are a running VM's: they survive a restart of
 * the service, which serves it again at the same address.
 */
export class PointExports implements AsyncDisposable {
  readonly #options: PointExportsOptions;
  readonly #files = new NodeStoreFiles();
  readonly #open = new Map<string, OpenExport>();
  readonly #dropped: DroppedTest[] = [];

  private constructor(options: PointExportsOptions) {
    this.#options = options;
  }

  static async open(options: PointExportsOptions): Promise<PointExports> {
    const exports = new PointExports(options);
    await exports.#files.makeDirectory(options.scratchDirectory);
    await exports.#files.makeDirectory(options.socketDirectory);
    await exports.#dropLeftovers();
    return exports;
  }

  list(): readonly PointExport[] {
    return [...this.#open.values()].map(({ entry }) => entry);
  }

  /** Test failovers of before that this start has dropped. */
  get dropped(): readonly DroppedTest[] {
    return this.#dropped;
  }

  /** `scratchLimitBytes`: of a test failover; null: what the floor of free space leaves. */
  async openExport(
    vmId: string,
    pointId: string,
    kind: PointExport["kind"],
    scratchLimitBytes: number | null = null,
  ): Promise<PointExport> {
    const openedAtMs = Date.now();
    const document = { exportId: randomUUID(), vmId, pointId, kind, openedAtMs };
    try {
      await this.#files.makeDirectory(this.#scratchOf(document.exportId));
      await writeDocument(
        this.#files,
        EXPORT_DOCUMENT,
        this.#headerOf(document.exportId),
        document,
      );
      return await this.#start(document, scratchLimitBytes);
    } catch (thrown) {
      await this.#dropScratch(document.exportId);
      throw toTidemarkError(thrown);
    }
  }

  /** Null when it is not open. */
  async usage(exportId: string): Promise<ExportUsage | null> {
    const opened = this.#open.get(exportId);
    if (opened === undefined) return null;
    const { entry, server } = opened;
    const clients = entry.disks.map(({ name }) => server.clientCount(name));
    return {
      clientCount: clients.reduce((sum, count) => sum + count, 0),
      refusedWriteCount: this.refusedWriteCount(exportId),
      scratchBytes: await this.#scratchBytes(exportId),
    };
  }

  /** For want of room. */
  refusedWriteCount(exportId: string): number {
    return this.#open.get(exportId)?.budget?.refusedCount() ?? 0;
  }

  /** Its clients are cut off; what was written to it is dropped. */
  async closeExport(exportId: string): Promise<void> {
    if (!this.#open.has(exportId)) {
      throw new TidemarkError(
        "NOT_FOUND",
        `Cannot close ${exportId}: because no export of that id is open.`,
        { hint: "`tidemark vm status VM` lists the open ones." },
      );
    }
    await this.#stop(exportId);
    await this.#dropScratch(exportId);
  }

  /** They end here. */
  async close(): Promise<void> {
    for (const exportId of this.#open.keys()) await this.closeExport(exportId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** What a service that was killed has left. */
  async #dropLeftovers(): Promise<void> {
    for (const name of await this.#files.list(this.#options.scratchDirectory)) {
      await this.#dropLeftover(name).catch((thrown: unknown) => {
        const { message } = toTidemarkError(thrown);
        this.#options.onWarning?.(
          `Cannot drop export ${name}: because ${message} Its writes are kept in ${this.#scratchOf(name)}.`,
        );
      });
    }
  }

  async #dropLeftover(name: string): Promise<void> {
    const header = this.#headerOf(name);
    const isWhole = (await this.#files.size(header)) !== null;
    const document = isWhole ? await readDocument(this.#files, EXPORT_DOCUMENT, header) : null;
    if (document?.kind === "test-failover") {
      this.#dropped.push({ document, scratchBytes: await this.#scratchBytes(name) });
    }
    await this.#dropScratch(name);
  }

  async #start(
    document: ExportDocument,
    scratchLimitBytes: number | null = null,
  ): Promise<PointExport> {
    const { exportId, vmId, pointId, kind } = document;
    const point = await this.#options.store.openPoint(vmId, pointId, "passing");
    const budget = kind === "test-failover" ? this.#budget(scratchLimitBytes) : undefined;
    const devices: NativeDevice[] = [];
    try {
      for (const [index, disk] of point.disks.entries()) {
        const scratch = join(this.#scratchOf(exportId), `disk-${index}`);
        const isReadOnly = document.kind === "read-only";
        devices.push(await openPointDisk(binding, disk, isReadOnly ? "" : scratch, budget));
      }
      const served = await this.#serve(document, point, devices);
      this.#open.set(exportId, { ...served, budget });
      return served.entry;
    } catch (thrown) {
      await closeDevices(devices);
      point.release();
      throw thrown;
    }
  }

  async #stop(exportId: string): Promise<void> {
    const opened = this.#open.get(exportId);
    if (opened === undefined) return;
    this.#open.delete(exportId);
    await opened.server.close();
    await closeDevices(opened.devices);
    opened.point.release();
  }

  #budget(limitBytes: number | null): NativeScratchBudget {
    const { freeSpaceFloorBytes = 0 } = this.#options;
    return binding.scratchBudget(limitBytes ?? Number.MAX_SAFE_INTEGER, freeSpaceFloorBytes);
  }

  async #scratchBytes(exportId: string): Promise<number> {
    const directory = this.#scratchOf(exportId);
    let bytes = 0;
    for (const name of await this.#files.list(directory)) {
      if (!/^disk-\d+$/.test(name)) continue;
      bytes += (await this.#files.size(join(directory, name)))?.allocatedBytes ?? 0;
    }
    return bytes;
  }

  async #serve(
    { exportId, vmId, kind }: ExportDocument,
    point: OpenedPoint,
    devices: readonly NativeDevice[],
  ): Promise<Omit<OpenExport, "budget">> {
    const socketPath = join(this.#options.socketDirectory, `${exportId.slice(0, 8)}.sock`);
    const server = await NbdServer.start({ socketPath, acceptsAtOnce: false });
    const description = `recovery point ${point.point.sequence}`;
    try {
      for (const [index, device] of devices.entries()) {
        server.addExport(point.disks[index]?.geometry.name ?? "", device, { description });
      }
      server.accept();
    } catch (thrown) {
      await server.close();
      throw thrown;
    }
    const disks = point.disks.map(({ geometry: { diskId, name, sizeBytes }, isPlaceholder }) => ({
      diskId,
      name,
      sizeBytes,
      uri: server.uriOf(name),
      isPlaceholder,
    }));
    const absentDisks = point.absentDisks.map(({ diskId, name }) => ({ diskId, name }));
    const entry: PointExport = { exportId, vmId, kind, point: point.point, disks, absentDisks };
    return { entry, point, server, devices };
  }

  /** The header goes first: without it, what is left is nobody's. */
  async #dropScratch(exportId: string): Promise<void> {
    const directory = this.#scratchOf(exportId);
    if ((await this.#files.size(directory)) === null) return;
    await this.#files.remove(this.#headerOf(exportId));
    await this.#files.syncDirectory(directory);
    await this.#files.removeTree(directory);
  }

  #scratchOf(exportId: string): string {
    return join(this.#options.scratchDirectory, exportId);
  }

  #headerOf(exportId: string): string {
    return join(this.#scratchOf(exportId), EXPORT_HEADER);
  }
}

/** What a client wrote and did not flush is not given up without need. */
async function closeDevices(devices: readonly NativeDevice[]): Promise<void> {
  for (const device of devices) {
    await device.flush().catch(() => undefined);
    await device.close();
  }
}
