import { randomUUID } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { PointExport } from "../model/replica-exports.js";
import { binding, type NativeDevice } from "../tracking/binding.js";
import { NbdServer } from "../tracking/nbd-server.js";
import type { OpenedPoint } from "./opened-point.js";
import type { ReplicaStore } from "./replica-store.js";

export interface PointExportsOptions {
  readonly store: ReplicaStore;
  readonly socketDirectory: string;
  /** Scratch files; what is left there from before is dropped. */
  readonly scratchDirectory: string;
}

interface OpenExport {
  readonly entry: PointExport;
  readonly point: OpenedPoint;
  readonly server: NbdServer;
  readonly devices: readonly NativeDevice[];
}

/**
 * Recovery points that are open as disks: served over NBD, writable through a
 * scratch file that closing drops. Several at once, of the same point too.
 */
export class PointExports implements AsyncDisposable {
  readonly #options: PointExportsOptions;
  readonly #open = new Map<string, OpenExport>();

  private constructor(options: PointExportsOptions) {
    this.#options = options;
  }

  static async open(options: PointExportsOptions): Promise<PointExports> {
    await rm(options.scratchDirectory, { recursive: true, force: true });
    await mkdir(options.scratchDirectory, { recursive: true, mode: 0o700 });
    await mkdir(options.socketDirectory, { recursive: true, mode: 0o700 });
    return new PointExports(options);
  }

  list(): readonly PointExport[] {
    return [...this.#open.values()].map(({ entry }) => entry);
  }

  async openExport(vmId: string, pointId: string, kind: PointExport["kind"]): Promise<PointExport> {
    const exportId = randomUUID();
    const point = await this.#options.store.openPoint(vmId, pointId);
    const devices: NativeDevice[] = [];
    try {
      await mkdir(this.#scratchOf(exportId), { mode: 0o700 });
      for (const [index] of point.disks.entries()) {
        devices.push(await this.#openDisk(point, index, exportId));
      }
      const opened = await this.#serve(exportId, vmId, kind, point, devices);
      this.#open.set(exportId, opened);
      return opened.entry;
    } catch (thrown) {
      await this.#drop(exportId, point, devices);
      throw toTidemarkError(thrown);
    }
  }

  /** Its clients are cut off; what was written to it is dropped. */
  async closeExport(exportId: string): Promise<void> {
    const opened = this.#open.get(exportId);
    if (opened === undefined) {
      throw new TidemarkError(
        "NOT_FOUND",
        `Cannot close ${exportId}: because no export of that id is open.`,
        {
          hint: "`tidemark vm status VM` lists the open ones.",
        },
      );
    }
    this.#open.delete(exportId);
    await opened.server.close();
    await this.#drop(exportId, opened.point, opened.devices);
  }

  async close(): Promise<void> {
    for (const exportId of [...this.#open.keys()]) await this.closeExport(exportId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #scratchOf(exportId: string): string {
    return join(this.#options.scratchDirectory, exportId);
  }

  async #openDisk(point: OpenedPoint, index: number, exportId: string): Promise<NativeDevice> {
    const disk = point.disks[index];
    if (disk === undefined)
      throw new TidemarkError("INTERNAL", "Cannot open a disk that the point lacks.");
    const { diskId, sizeBytes, granularityBytes } = disk.geometry;
    const scratchPath = join(this.#scratchOf(exportId), `disk-${index}`);
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
    exportId: string,
    vmId: string,
    kind: PointExport["kind"],
    point: OpenedPoint,
    devices: readonly NativeDevice[],
  ): Promise<OpenExport> {
    const socketPath = join(this.#options.socketDirectory, `${exportId.slice(0, 8)}.sock`);
    const server = await NbdServer.start({ socketPath });
    const disks = point.disks.map(({ geometry }, index) => {
      const device = devices[index];
      if (device === undefined)
        throw new TidemarkError("INTERNAL", "Cannot serve a disk that is not open.");
      server.addExport(geometry.name, device, {
        description: `recovery point ${point.point.sequence}`,
      });
      const { diskId, name, sizeBytes } = geometry;
      return { diskId, name, sizeBytes, uri: server.uriOf(name) };
    });
    const entry: PointExport = { exportId, vmId, kind, point: point.point, disks };
    return { entry, point, server, devices };
  }

  async #drop(
    exportId: string,
    point: OpenedPoint,
    devices: readonly NativeDevice[],
  ): Promise<void> {
    for (const device of devices) await device.close();
    await rm(this.#scratchOf(exportId), { recursive: true, force: true });
    point.release();
  }
}
