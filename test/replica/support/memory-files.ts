import { dirname } from "node:path";
import { TidemarkError } from "#lib/model/errors.js";
import type { FileSize, StoreFiles } from "#lib/replica/store-files.js";

/** The store's files in a map: content by path, null for a directory. */
export class MemoryFiles implements StoreFiles {
  readonly tree: Map<string, Buffer | null>;

  constructor(tree: ReadonlyMap<string, Buffer | null> = new Map()) {
    this.tree = new Map(tree);
  }

  async makeDirectory(path: string): Promise<void> {
    for (let one = path; one !== dirname(one); one = dirname(one)) this.tree.set(one, null);
  }

  async writeSynced(path: string, content: Uint8Array): Promise<void> {
    if (this.tree.get(dirname(path)) !== null) throw missing(path);
    this.tree.set(path, Buffer.from(content));
  }

  async rename(from: string, to: string): Promise<void> {
    const content = this.tree.get(from);
    if (content === undefined || this.tree.get(dirname(to)) !== null) throw missing(from);
    this.tree.delete(from);
    this.tree.set(to, content);
  }

  async linkTo(path: string, target: string): Promise<void> {
    const content = this.tree.get(target);
    if (content === undefined) throw missing(target);
    this.tree.set(path, content);
  }

  async syncDirectory(path: string): Promise<void> {
    if (this.tree.get(path) !== null) throw missing(path);
  }

  async remove(path: string): Promise<void> {
    this.tree.delete(path);
  }

  async removeTree(path: string): Promise<void> {
    for (const one of this.below(path)) this.tree.delete(one);
    this.tree.delete(path);
  }

  async read(path: string): Promise<Buffer> {
    const content = this.tree.get(path);
    if (content === undefined || content === null) throw missing(path);
    return content;
  }

  async list(path: string): Promise<readonly string[]> {
    const names = this.below(path).filter((one) => dirname(one) === path);
    return names.map((one) => one.slice(path.length + 1)).sort();
  }

  async size(path: string): Promise<FileSize | null> {
    const content = this.tree.get(path);
    if (content === undefined) return null;
    return { sizeBytes: content?.length ?? 0, allocatedBytes: content?.length ?? 0 };
  }

  async createSparse(path: string, sizeBytes: number): Promise<void> {
    const present = this.tree.get(path) ?? Buffer.alloc(0);
    if (present.length >= sizeBytes) return;
    await this.writeSynced(path, Buffer.concat([present], sizeBytes));
  }

  async lock(): Promise<() => void> {
    return () => {};
  }

  /** For a device on the file: in place, durable with syncFile(). */
  writeAt(path: string, offsetBytes: number, content: Uint8Array): void {
    const changed = Buffer.from(this.tree.get(path) ?? Buffer.alloc(0));
    changed.set(content, offsetBytes);
    this.tree.set(path, changed);
  }

  syncFile(_path: string): void {}

  /** What lies in a directory, and in those in it; parents before their children. */
  below(path: string): readonly string[] {
    return [...this.tree.keys()].filter((one) => one.startsWith(`${path}/`)).sort();
  }
}

function missing(path: string): TidemarkError {
  return new TidemarkError("NOT_FOUND", `Cannot use ${path}: because it is not there.`);
}
