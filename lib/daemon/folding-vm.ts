import { link, lstat, readlink, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { TidemarkError } from "../model/errors.js";
import type { ReplicatedVm } from "../model/disk.js";
import type { Lineage } from "../model/lineage.js";
import { type DocumentFormat, readDocument, writeDocument } from "../replica/durable-document.js";
import type { GivenAwayVm } from "../replica/give-away.js";
import { NodeStoreFiles } from "../replica/node-store-files.js";
import { openPointDisk } from "../replica/open-point-disk.js";
import { binding, type NativeLayeredDevice } from "../tracking/binding.js";
import type { NativeFold } from "../tracking/layer-binding.js";

const FOLD_FILE = "fold.json";
const FORMAT: DocumentFormat<FoldDocument> = { name: "tidemark-folding-vm", version: 1 };

interface FoldDocument extends GivenAwayVm {
  readonly vmId: string;
}

/**
 * A VM that was failed over for good, on its way into plain disks. The document in its
 * directory says what they are made of; with it, the store knows nothing of the VM.
 */
export class FoldingVm {
  readonly directory: string;
  readonly document: FoldDocument;
  readonly #devices = new Map<string, NativeLayeredDevice>();
  #foldedBytes = 0;

  private constructor(directory: string, document: FoldDocument) {
    this.directory = directory;
    this.document = document;
  }

  /** Durable when it resolves: from then on this is what the VM is. */
  static async note(directory: string, vmId: string, vm: GivenAwayVm): Promise<FoldingVm> {
    const document = { vmId, ...vm };
    await writeDocument(new NodeStoreFiles(), FORMAT, join(directory, FOLD_FILE), document);
    return new FoldingVm(directory, document);
  }

  /** Null: it is not being folded. */
  static async load(directory: string): Promise<FoldingVm | null> {
    const files = new NodeStoreFiles();
    const path = join(directory, FOLD_FILE);
    if ((await files.size(path)) === null) return null;
    return new FoldingVm(directory, await readDocument(files, FORMAT, path));
  }

  get vm(): ReplicatedVm {
    const { vmId, name, disks } = this.document;
    return { vmId, name, disks: disks.map(({ geometry }) => geometry) };
  }

  get lineage(): Lineage {
    return this.document.lineage;
  }

  get totalBytes(): number {
    return this.document.disks.reduce((sum, { geometry }) => sum + geometry.sizeBytes, 0);
  }

  get foldedBytes(): number {
    return Math.min(this.#foldedBytes, this.totalBytes);
  }

  /** The devices that were opened before it began to be folded. */
  takeOver(devices: ReadonlyMap<string, NativeLayeredDevice>): void {
    for (const [diskId, device] of devices) this.#devices.set(diskId, device);
  }

  async openDisk(diskId: string): Promise<NativeLayeredDevice> {
    const index = this.document.disks.findIndex(({ geometry }) => geometry.diskId === diskId);
    const disk = this.document.disks[index];
    const base = this.document.basePaths[index];
    if (disk === undefined || base === undefined) throw noSuchDisk(diskId);
    // Once the fold has made a base, it is what the disk is opened with.
    const basePath = (await exists(base)) ? base : "";
    const scratch = join(this.directory, `disk-${index}`);
    const device = await openPointDisk(binding, { ...disk, basePath }, scratch);
    this.#devices.set(diskId, device);
    return device;
  }

  /** All disks, one after the other, and half of the time nothing; may be begun again. */
  async fold(stepBytes: number, signal: AbortSignal): Promise<void> {
    let before = 0;
    for (const [index, { geometry }] of this.document.disks.entries()) {
      const device = this.#devices.get(geometry.diskId);
      const base = this.document.basePaths[index];
      if (device === undefined || base === undefined) throw noSuchDisk(geometry.diskId);
      await new NodeStoreFiles().makeDirectory(dirname(base));
      const fold = await device.fold(base);
      try {
        await this.#foldDisk(fold, before, stepBytes, signal);
      } finally {
        await fold.close();
      }
      before += geometry.sizeBytes;
    }
  }

  async #foldDisk(
    fold: NativeFold,
    before: number,
    stepBytes: number,
    signal: AbortSignal,
  ): Promise<void> {
    for (let startedMs = performance.now(); await fold.step(stepBytes); ) {
      this.#foldedBytes = before + fold.positionBytes;
      await sleep(performance.now() - startedMs, undefined, { signal });
      startedMs = performance.now();
    }
    await fold.finish();
  }

  /**
   * The plain disks get names of their own, outside of what is about to go; one that was
   * another file all along keeps its own. Durable; may be repeated.
   */
  async nameDisks(): Promise<ReadonlyMap<string, string>> {
    const files = new NodeStoreFiles();
    const directory = join(dirname(dirname(this.#given)), "disks", this.document.vmId);
    await files.makeDirectory(directory);
    const paths = new Map<string, string>();
    for (const [index, { geometry }] of this.document.disks.entries()) {
      const base = this.document.basePaths[index] ?? "";
      paths.set(geometry.diskId, await nameOf(base, join(directory, geometry.diskId)));
    }
    await files.syncDirectory(directory);
    return paths;
  }

  /** What the disks were made of; the bitmaps stay. */
  async removeRemains(): Promise<void> {
    await rm(this.#given, { recursive: true, force: true });
    for (const [index] of this.document.disks.entries()) {
      for (const suffix of ["", ".index", ".index.live", ".frozen", ".marks", ".marks.live"]) {
        await rm(join(this.directory, `disk-${index}${suffix}`), { force: true });
      }
    }
    await this.forget();
  }

  async hasLeftStore(): Promise<boolean> {
    return exists(this.#given);
  }

  async forget(): Promise<void> {
    await rm(join(this.directory, FOLD_FILE), { force: true });
  }

  /** What was the VM's directory in the store, below the store's root. */
  get #given(): string {
    const [base] = this.document.basePaths;
    if (base === undefined) throw noSuchDisk("of any kind");
    return dirname(dirname(dirname(base)));
  }
}

/** `prefix.raw`, or the next one that is no other file: what an earlier life of the VM has left stays. */
async function nameOf(base: string, prefix: string): Promise<string> {
  if ((await lstat(base)).isSymbolicLink()) return readlink(base);
  for (let number = 1; ; number += 1) {
    const named = number === 1 ? `${prefix}.raw` : `${prefix}-${number}.raw`;
    if (!(await exists(named))) await link(base, named);
    if (await isSameFile(base, named)) return named;
  }
}

async function isSameFile(one: string, other: string): Promise<boolean> {
  const [a, b] = [await stat(one), await lstat(other)];
  return a.dev === b.dev && a.ino === b.ino;
}

async function exists(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => null)) !== null;
}

function noSuchDisk(diskId: string): TidemarkError {
  return new TidemarkError(
    "NOT_FOUND",
    `Cannot find disk ${diskId}: because the VM has none of that id.`,
  );
}
