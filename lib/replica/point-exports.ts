import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { PointExport } from "../model/replica-exports.js";
import { binding, type NativeDevice } from "../tracking/binding.js";
import { NbdServer } from "../tracking/nbd-server.js";
import { EXPORT_DOCUMENT, type ExportDocument } from "./documents.js";
import { readDocument, writeDocument } from "./durable-document.js";
import { NodeStoreFiles } from "./node-store-files.js";
import type { OpenedPoint, PointDisk } from "./opened-point.js";
import type { ReplicaStore } from "./replica-store.js";
import { EXPORT_HEADER } from "./store-paths.js";

export interface PointExportsOptions {
  readonly store: ReplicaStore;
  readonly socketDirectory: string;
  /** Holds a directory for each export: what was written to it, and which it is. */
  readonly scratchDirectory: string;
  /** A failover of before that cannot be served again; what it wrote is kept. */
  readonly onWarning?: (message: string) => void;
}

interface OpenExport {
  readonly entry: PointExport;
  readonly point: OpenedPoint;
  readonly server: NbdServer;
  readonly devices: readonly NativeDevice[];
}

/**
 * Recovery points that are open as disks: served over NBD, writable through a
 * scratch file that closing the export drops. Several at once, of the same
 * point too. A failover's writes are a running VM's: they survive a restart of
 * the service, which serves it again at the same address.
 */
export class PointExports implements AsyncDisposable {
  readonly #options: PointExportsOptions;
  readonly #files = new NodeStoreFiles();
  readonly #open = new Map<string, OpenExport>();

  private constructor(options: PointExportsOptions) {
    this.#options = options;
  }

  static async open(options: PointExportsOptions): Promise<PointExports> {
    const exports = new PointExports(options);
    await exports.#files.makeDirectory(options.scratchDirectory);
    await exports.#files.makeDirectory(options.socketDirectory);
    await exports.#resume();
    return exports;
  }

  list(): readonly PointExport[] {
    return [...this.#open.values()].map(({ entry }) => entry);
  }

  async openExport(vmId: string, pointId: string, kind: PointExport["kind"]): Promise<PointExport> {
    const document = { exportId: randomUUID(), vmId, pointId, kind };
    try {
      await this.#files.makeDirectory(this.#scratchOf(document.exportId));
      await writeDocument(
        this.#files,
        EXPORT_DOCUMENT,
        this.#headerOf(document.exportId),
        document,
      );
      return await this.#start(document);
    } catch (thrown) {
      await this.#dropScratch(document.exportId);
      throw toTidemarkError(thrown);
    }
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

  /** Test failovers end here; failovers wait for the next start. */
  async close(): Promise<void> {
    for (const [exportId, { entry }] of this.#open) {
      if (entry.kind === "failover") await this.#stop(exportId);
      else await this.closeExport(exportId);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #resume(): Promise<void> {
    for (const name of await this.#files.list(this.#options.scratchDirectory)) {
      await this.#resumeOne(name).catch((thrown: unknown) => {
        const { message } = toTidemarkError(thrown);
        this.#options.onWarning?.(
          `Cannot serve export ${name} again: because ${message} Its writes are kept in ${this.#scratchOf(name)}.`,
        );
      });
    }
  }

  async #resumeOne(name: string): Promise<void> {
    const header = this.#headerOf(name);
    const isWhole = (await this.#files.size(header)) !== null;
    const document = isWhole ? await readDocument(this.#files, EXPORT_DOCUMENT, header) : null;
    if (document?.kind !== "failover") return this.#dropScratch(name);
    // Never released when serving fails: what the writes lie on must stay as it is.
    const point = await this.#options.store.openPoint(document.vmId, document.pointId);
    await this.#start(document);
    point.release();
  }

  async #start(document: ExportDocument): Promise<PointExport> {
    const { exportId, vmId, pointId } = document;
    const point = await this.#options.store.openPoint(vmId, pointId);
    const devices: NativeDevice[] = [];
    try {
      for (const [index, disk] of point.disks.entries()) {
        devices.push(await this.#openDisk(disk, join(this.#scratchOf(exportId), `disk-${index}`)));
      }
      const opened = await this.#serve(document, point, devices);
      this.#open.set(exportId, opened);
      return opened.entry;
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

  #openDisk(disk: PointDisk, scratchPath: string): Promise<NativeDevice> {
    const { diskId, sizeBytes, granularityBytes } = disk.geometry;
    return binding.openLayeredDevice(
      diskId,
      sizeBytes,
      granularityBytes,
      disk.basePath,
      [...disk.layerPaths],
      scratchPath,
    );
  }

  async #serve(
    { exportId, vmId, kind }: ExportDocument,
    point: OpenedPoint,
    devices: readonly NativeDevice[],
  ): Promise<OpenExport> {
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
    const disks = point.disks.map(({ geometry: { diskId, name, sizeBytes } }) => ({
      diskId,
      name,
      sizeBytes,
      uri: server.uriOf(name),
    }));
    const entry: PointExport = { exportId, vmId, kind, point: point.point, disks };
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
