import { join } from "node:path";
import type { Generation } from "../model/disk.js";
import {
  SESSION_DOCUMENT,
  type SessionDocument,
  STAGED_DELTA_DOCUMENT,
  type StagedDeltaDocument,
  type StoredLayer,
} from "./documents.js";
import { readDocument, writeDocument } from "./durable-document.js";
import type { StoreFiles } from "./store-files.js";
import { SESSION_HEADER, stagedDeltaFileName, type VmPaths } from "./store-paths.js";

/**
 * What drains have brought and no recovery point has taken in yet: a list of
 * committed staging deltas, whose sealed layers are in the layers directory.
 * One file a delta, in the order of their commits.
 */
export class StagingSession {
  readonly document: SessionDocument;
  readonly directory: string;
  readonly #deltas: StagedDeltaDocument[] = [];

  private constructor(document: SessionDocument, directory: string) {
    this.document = document;
    this.directory = directory;
  }

  static async create(
    files: StoreFiles,
    paths: VmPaths,
    document: SessionDocument,
  ): Promise<StagingSession> {
    const directory = paths.sessionDirectory(document.sessionId);
    await files.makeDirectory(directory);
    await writeDocument(files, SESSION_DOCUMENT, join(directory, SESSION_HEADER), document);
    return new StagingSession(document, directory);
  }

  /** With its first delta: there is both or nothing. */
  static async createWith(
    files: StoreFiles,
    paths: VmPaths,
    document: SessionDocument,
    delta: Pick<StagedDeltaDocument, "deltaId" | "digest" | "disks">,
  ): Promise<StagingSession> {
    const { vmId, sessionId } = document;
    const directory = paths.sessionDirectory(sessionId);
    const session = new StagingSession(document, directory);
    await files.makeDirectory(directory);
    await session.add(files, { vmId, sessionId, ...delta });
    await writeDocument(files, SESSION_DOCUMENT, join(directory, SESSION_HEADER), document);
    return session;
  }

  /** Throws when anything of it is not whole: then the session is lost as a whole. */
  static async load(files: StoreFiles, directory: string): Promise<StagingSession> {
    const path = join(directory, SESSION_HEADER);
    const session = new StagingSession(
      await readDocument(files, SESSION_DOCUMENT, path),
      directory,
    );
    const names = (await files.list(directory)).filter((name) => /^delta-[0-9]+\.json$/.test(name));
    for (const name of names) {
      session.#deltas.push(await readDocument(files, STAGED_DELTA_DOCUMENT, join(directory, name)));
    }
    return session;
  }

  get sessionId(): string {
    return this.document.sessionId;
  }

  fits(headPointId: string | null, generation: Generation): boolean {
    const { parentPointId } = this.document;
    return parentPointId === headPointId && this.document.generation.id === generation.id;
  }

  find(deltaId: string): StagedDeltaDocument | null {
    return this.#deltas.find((delta) => delta.deltaId === deltaId) ?? null;
  }

  get deltaIds(): readonly string[] {
    return this.#deltas.map((delta) => delta.deltaId);
  }

  /** Durable when it resolves. */
  async add(files: StoreFiles, delta: StagedDeltaDocument): Promise<void> {
    const path = join(this.directory, stagedDeltaFileName(this.#deltas.length + 1));
    await writeDocument(files, STAGED_DELTA_DOCUMENT, path, delta);
    this.#deltas.push(delta);
  }

  get hasLayers(): boolean {
    return this.layers().length > 0;
  }

  /** All of them, or those of one disk, oldest first. */
  layers(diskId?: string): readonly StoredLayer[] {
    return this.#deltas
      .flatMap((delta) => delta.disks)
      .filter((disk) => diskId === undefined || disk.diskId === diskId)
      .flatMap((disk) => disk.layers);
  }
}
