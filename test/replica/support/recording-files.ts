import { dirname } from "node:path";
import { MemoryFiles } from "./memory-files.js";

/** One step that the file system may or may not have made durable when the power goes. */
export type FileEvent =
  | { readonly type: "create" | "remove" | "mkdir" | "rmdir"; readonly path: string }
  | { readonly type: "rename"; readonly from: string; readonly path: string }
  | { readonly type: "data"; readonly path: string; readonly content: Buffer }
  | {
      readonly type: "dataAt";
      readonly path: string;
      readonly offsetBytes: number;
      readonly content: Buffer;
    }
  | { readonly type: "syncData" | "syncDirectory"; readonly path: string }
  /** Not of the file system: what the test's caller has been told by then. */
  | { readonly type: "mark"; readonly path: ""; readonly told: unknown };

/** Files in memory, and a trace of what was done to them. */
export class RecordingFiles extends MemoryFiles {
  readonly events: FileEvent[] = [];

  mark(told: unknown): void {
    this.events.push({ type: "mark", path: "", told });
  }

  override async makeDirectory(path: string): Promise<void> {
    const missing: string[] = [];
    for (let one = path; one !== "/" && !this.tree.has(one); one = dirname(one)) {
      missing.unshift(one);
    }
    await super.makeDirectory(path);
    for (const one of missing) this.#add({ type: "mkdir", path: one });
    for (const one of missing) this.#add({ type: "syncDirectory", path: dirname(one) });
  }

  override async writeSynced(path: string, content: Uint8Array): Promise<void> {
    const isNew = (await super.size(path)) === null;
    await super.writeSynced(path, content);
    if (isNew) this.#add({ type: "create", path });
    this.#add({ type: "data", path, content: Buffer.from(content) });
    this.#add({ type: "syncData", path });
  }

  override async rename(from: string, to: string): Promise<void> {
    await super.rename(from, to);
    this.#add({ type: "rename", from, path: to });
  }

  override async syncDirectory(path: string): Promise<void> {
    await super.syncDirectory(path);
    this.#add({ type: "syncDirectory", path });
  }

  override async remove(path: string): Promise<void> {
    const wasThere = (await super.size(path)) !== null;
    await super.remove(path);
    if (wasThere) this.#add({ type: "remove", path });
  }

  override async removeTree(path: string): Promise<void> {
    const gone = [path, ...this.below(path)].filter((one) => this.tree.has(one)).reverse();
    const events = gone.map((one) => ({
      type: this.tree.get(one) === null ? ("rmdir" as const) : ("remove" as const),
      path: one,
    }));
    await super.removeTree(path);
    this.events.push(...events);
  }

  override async createSparse(path: string, sizeBytes: number): Promise<void> {
    await super.createSparse(path, sizeBytes);
    await this.syncDirectory(dirname(path));
  }

  override writeAt(path: string, offsetBytes: number, content: Uint8Array): void {
    super.writeAt(path, offsetBytes, content);
    this.#add({ type: "dataAt", path, offsetBytes, content: Buffer.from(content) });
  }

  override syncFile(path: string): void {
    this.#add({ type: "syncData", path });
  }

  #add(event: FileEvent): void {
    this.events.push(event);
  }
}
