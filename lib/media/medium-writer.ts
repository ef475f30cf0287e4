import { randomUUID } from "node:crypto";
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { DeltaHeader, SegmentReceipt, SegmentSource } from "../model/delta.js";
import { deltaDigest } from "../model/delta-digest.js";
import type { Generation, ReplicatedVm } from "../model/disk.js";
import { TidemarkError } from "../model/errors.js";
import { failpoint } from "../model/failpoint.js";
import type { WritableMedium } from "../model/initial-media.js";
import { pointOfDelta } from "../model/point-of-delta.js";
import type {
  CommitRequest,
  RecoveryPoint,
  ReplicaVmStatus,
  ReturnedDisks,
} from "../model/replica-endpoint.js";
import {
  deltaDirectory,
  type DeltaDocument,
  deltaDocument,
  deltaFile,
  MANIFEST_FILE,
  type ManifestDocument,
  manifestDocument,
  parseDocument,
  readHeader,
  SESSION_FILE,
  type SegmentEntry,
  segmentFile,
  sessionDocument,
} from "./medium.js";
import { diskError, readSealed, syncDirectory, writeSealed } from "./medium-files.js";
import type { MediumSegments } from "./medium-segments.js";
import type { SealedPlace } from "./sealed-file.js";

export interface MediumWriterOptions {
  /** The medium's folder, in which createMedium() has written its header. */
  readonly directory: string;
  readonly mediaId: string;
  readonly key: Uint8Array;
  readonly segments: MediumSegments;
  readonly compressionLevel: number;
}

interface OpenDelta {
  header: DeltaHeader;
  readonly order: number;
  readonly entries: Map<number, SegmentEntry>;
}

/**
 * A medium as the replica of a VM that it is the first copy of: takes passes into a
 * session and then one point, which makes it whole. What it has committed survives
 * any interruption; of an open delta nothing does.
 */
export class MediumWriter implements WritableMedium {
  readonly #options: MediumWriterOptions;
  readonly #deltas: DeltaDocument[] = [];
  #sessionId: string | null = null;
  #point: RecoveryPoint | null = null;
  #open: OpenDelta | null = null;
  #vm: ReplicatedVm | null = null;

  private constructor(options: MediumWriterOptions) {
    this.#options = options;
  }

  /** NOT_FOUND: the medium is not in its place; FOREIGN: another one is. */
  static async open(options: MediumWriterOptions): Promise<MediumWriter> {
    const { directory, mediaId } = options;
    const header = await readHeader(directory);
    if (header.mediaId !== mediaId) {
      throw new TidemarkError(
        "FOREIGN",
        `Cannot go on with the medium in ${directory}: because it is another one (${header.mediaId}).`,
        { hint: "Put the medium back that the export began on." },
      );
    }
    const writer = new MediumWriter(options);
    await writer.#load();
    return writer;
  }

  async enable(vm: ReplicatedVm, generation: Generation): Promise<ReplicaVmStatus> {
    this.#vm = vm;
    return {
      vm,
      generation,
      head: this.#point,
      pointCount: this.#point === null ? 0 : 1,
      stagingSessionId: this.#point === null ? this.#sessionId : null,
      storedBytes: this.#deltas.reduce((sum, delta) => sum + storedBytesOf(delta), 0),
    };
  }

  async openStaging(): Promise<string> {
    this.#requireUnfinished();
    const sessionId = randomUUID();
    await writeSealed(this.#path(SESSION_FILE), this.#place(SESSION_FILE), { sessionId });
    this.#sessionId = sessionId;
    this.#open = null;
    this.#deltas.splice(0);
    await this.#removeDeltasFrom(1);
    return sessionId;
  }

  async openDelta(header: DeltaHeader): Promise<readonly SegmentReceipt[]> {
    this.#requireUnfinished();
    if (header.stagingSessionId !== this.#sessionId || this.#sessionId === null) {
      throw new TidemarkError(
        "STAGING_LOST",
        "Cannot write to the medium: because its session is another.",
      );
    }
    if (this.#open?.header.deltaId === header.deltaId) {
      this.#open.header = header;
      return [...this.#open.entries.values()].map(({ receipt }) => receipt);
    }
    const order = this.#deltas.length + 1;
    await this.#removeDeltasFrom(order);
    await mkdir(this.#path(deltaDirectory(order)), { mode: 0o700 }).catch((thrown: unknown) => {
      throw diskError(thrown, this.#path(deltaDirectory(order)));
    });
    this.#open = { header, order, entries: new Map() };
    return [];
  }

  async putSegment(source: SegmentSource, signal?: AbortSignal): Promise<SegmentReceipt> {
    const open = this.#requireOpen(source.deltaId);
    const { segmentIndex } = source.plan;
    const name = segmentFile(open.order, segmentIndex);
    const { segments, compressionLevel } = this.#options;
    const target = { path: this.#path(name), place: this.#place(name), compressionLevel };
    const entry = await segments.write(source, target, signal);
    if (this.#open !== open) throw notOpen(source.deltaId);
    open.entries.set(segmentIndex, entry);
    return entry.receipt;
  }

  /** The delta's document makes it count, the manifest the whole medium. */
  async commit({ deltaId, attempt, digest }: CommitRequest): Promise<RecoveryPoint | null> {
    const repeated = this.#deltas.find(({ header }) => header.deltaId === deltaId);
    if (repeated !== undefined) return repeated.header.kind === "point" ? this.#point : null;
    const { header, order, entries } = this.#requireOpen(deltaId);
    const segments = [...entries].sort(([a], [b]) => a - b).map(([, entry]) => entry);
    const isWhole =
      segments.length === header.segmentCount &&
      deltaDigest(segments.map(({ receipt }) => receipt)) === digest;
    if (header.attempt !== attempt || !isWhole) {
      throw new TidemarkError(
        "CORRUPT",
        "Cannot close the delta on the medium: because it is not whole.",
      );
    }
    await syncDirectory(this.#path(deltaDirectory(order)));
    const document = { header, digest, segments };
    if (header.kind === "point") await this.#finish(document);
    else await this.#keep(order, document);
    this.#deltas.push(document);
    this.#open = null;
    return this.#point;
  }

  async abandon(_vmId: string, deltaId: string): Promise<void> {
    if (this.#open?.header.deltaId === deltaId) this.#open = null;
  }

  async status(): Promise<ReplicaVmStatus> {
    throw unsupported();
  }

  async points(): Promise<readonly RecoveryPoint[]> {
    return this.#point === null ? [] : [this.#point];
  }

  async deleteVm(): Promise<void> {
    throw unsupported();
  }

  async succeed(): Promise<ReplicaVmStatus> {
    throw unsupported();
  }

  async takeReturned(): Promise<ReturnedDisks> {
    throw unsupported();
  }

  async blockHashes(): Promise<Uint8Array> {
    throw unsupported();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#options.segments[Symbol.asyncDispose]();
  }

  async #keep(order: number, document: DeltaDocument): Promise<void> {
    failpoint("media.commit");
    const name = deltaFile(order);
    await writeSealed(this.#path(name), this.#place(name), document);
    await syncDirectory(this.#options.directory);
  }

  async #finish(document: DeltaDocument): Promise<void> {
    failpoint("media.manifest");
    const { generation } = document.header;
    const deltas = [...this.#deltas, document];
    const manifest: ManifestDocument = { vm: this.#requireVm(), generation, deltas };
    await syncDirectory(this.#options.directory);
    await writeSealed(this.#path(MANIFEST_FILE), this.#place(MANIFEST_FILE), manifest);
    this.#point = pointOf(document, deltas);
  }

  async #load(): Promise<void> {
    const manifest = await readManifest(this.#options);
    if (manifest !== null) {
      this.#deltas.push(...manifest.deltas);
      const last = manifest.deltas.at(-1);
      this.#point = last === undefined ? null : pointOf(last, manifest.deltas);
      return;
    }
    const session = await this.#read(SESSION_FILE);
    if (session === null) return;
    this.#sessionId = parseDocument(sessionDocument, session, SESSION_FILE).sessionId;
    for (let order = 1; ; order += 1) {
      const found = await this.#read(deltaFile(order));
      const delta = found === null ? null : parseDocument(deltaDocument, found, deltaFile(order));
      if (delta?.header.stagingSessionId !== this.#sessionId) return;
      this.#deltas.push(delta);
    }
  }

  #read(name: string): Promise<unknown> {
    return readSealed(this.#path(name), this.#place(name));
  }

  async #removeDeltasFrom(order: number): Promise<void> {
    const { directory } = this.#options;
    try {
      for (const name of await readdir(directory)) {
        if (!/^delta-\d{6}$/.test(name) || name < deltaDirectory(order)) continue;
        await rm(join(directory, name), { recursive: true, force: true });
      }
    } catch (thrown) {
      throw diskError(thrown, directory);
    }
  }

  #path(name: string): string {
    return join(this.#options.directory, name);
  }

  #place(name: string): SealedPlace {
    const { key, mediaId } = this.#options;
    return { key, mediaId, name };
  }

  #requireVm(): ReplicatedVm {
    if (this.#vm !== null) return this.#vm;
    throw new TidemarkError(
      "CONFLICT",
      "Cannot close the medium: because no VM was enabled on it.",
    );
  }

  #requireUnfinished(): void {
    if (this.#point === null) return;
    throw new TidemarkError("CONFLICT", "Cannot add to the medium: because it is finished.");
  }

  #requireOpen(deltaId: string): OpenDelta {
    if (this.#open?.header.deltaId === deltaId) return this.#open;
    throw notOpen(deltaId);
  }
}

/** Null: the export has not come to its end. */
export async function readManifest({
  directory,
  mediaId,
  key,
}: Pick<MediumWriterOptions, "directory" | "mediaId" | "key">): Promise<ManifestDocument | null> {
  const path = join(directory, MANIFEST_FILE);
  const found = await readSealed(path, { key, mediaId, name: MANIFEST_FILE });
  return found === null ? null : parseDocument(manifestDocument, found, path);
}

function pointOf(
  { header, digest }: DeltaDocument,
  deltas: readonly DeltaDocument[],
): RecoveryPoint {
  const changedBytes = deltas.reduce((sum, delta) => sum + contentBytesOf(delta), 0);
  return pointOfDelta(header, { sequence: 1, digest, changedBytes });
}

function contentBytesOf({ segments }: DeltaDocument): number {
  return segments.reduce((sum, { receipt }) => sum + receipt.dataBytes + receipt.zeroBytes, 0);
}

function storedBytesOf({ segments }: DeltaDocument): number {
  return segments.reduce((sum, { fileBytes }) => sum + fileBytes, 0);
}

function notOpen(deltaId: string): TidemarkError {
  return new TidemarkError(
    "NOT_FOUND",
    `Cannot use delta ${deltaId}: because it is not open on the medium.`,
  );
}

function unsupported(): TidemarkError {
  return new TidemarkError("UNSUPPORTED", "Cannot ask a medium that: it holds a first copy only.");
}
