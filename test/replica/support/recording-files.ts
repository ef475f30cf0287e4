import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { NodeStoreFiles } from "#lib/replica/node-store-files.js";
import type { FileSize, StoreFiles } from "#lib/replica/store-files.js";

/** One step that the file system may or may not have made durable when the power goes. */
export type FileEvent =
  | { readonly type: "create" | "remove" | "mkdir" | "rmdir"; readonly path: string }
  | { readonly type: "rename"; readonly from: string; readonly path: string }
  | { readonly type: "data"; readonly path: string; readonly content: Buffer }
  | { readonly type: "syncData" | "syncDirectory"; readonly path: string }
  /** Not of the file system: what the test's caller has been told by then. */
  | { readonly type: "mark"; readonly path: ""; readonly told: unknown };

/** The real files, and a trace of what was done to them. */
export class RecordingFiles implements StoreFiles {
  readonly events: FileEvent[] = [];
  readonly #inner = new NodeStoreFiles();

  mark(told: unknown): void {
    this.events.push({ type: "mark", path: "", told });
  }

  async makeDirectory(path: string): Promise<void> {
    const missing: string[] = [];
    for (let one = path; (await this.#inner.size(one)) === null; one = dirname(one)) {
      missing.unshift(one);
    }
    await this.#inner.makeDirectory(path);
    for (const one of missing) this.#add({ type: "mkdir", path: one });
    for (const one of missing) this.#add({ type: "syncDirectory", path: dirname(one) });
  }

  async writeSynced(path: string, content: Uint8Array): Promise<void> {
    const isNew = (await this.#inner.size(path)) === null;
    await this.#inner.writeSynced(path, content);
    if (isNew) this.#add({ type: "create", path });
    this.#add({ type: "data", path, content: Buffer.from(content) });
    this.#add({ type: "syncData", path });
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#inner.rename(from, to);
    this.#add({ type: "rename", from, path: to });
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#inner.syncDirectory(path);
    this.#add({ type: "syncDirectory", path });
  }

  async remove(path: string): Promise<void> {
    const wasThere = (await this.#inner.size(path)) !== null;
    await this.#inner.remove(path);
    if (wasThere) this.#add({ type: "remove", path });
  }

  async removeTree(path: string): Promise<void> {
    const found = await this.#inner.size(path);
    const entries = await readdir(path, { recursive: true, withFileTypes: true }).catch(() => []);
    await this.#inner.removeTree(path);
    for (const entry of entries.reverse()) {
      const type = entry.isDirectory() ? "rmdir" : "remove";
      this.#add({ type, path: join(entry.parentPath, entry.name) });
    }
    if (found !== null) this.#add({ type: path.endsWith(".layer") ? "remove" : "rmdir", path });
  }

  read(path: string): Promise<Buffer> {
    return this.#inner.read(path);
  }

  list(path: string): Promise<readonly string[]> {
    return this.#inner.list(path);
  }

  size(path: string): Promise<FileSize | null> {
    return this.#inner.size(path);
  }

  async createSparse(path: string, sizeBytes: number): Promise<void> {
    const isNew = (await this.#inner.size(path)) === null;
    await this.#inner.createSparse(path, sizeBytes);
    if (!isNew) return;
    this.#add({ type: "create", path });
    this.#add({ type: "data", path, content: Buffer.alloc(sizeBytes) });
    this.#add({ type: "syncData", path });
    this.#add({ type: "syncDirectory", path: dirname(path) });
  }

  #add(event: FileEvent): void {
    this.events.push(event);
  }
}
