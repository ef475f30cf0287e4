/**
 * The file operations that the replica store's promises rest on, one method a
 * step, so that a test can record them and look at every state a crash leaves.
 */
export interface StoreFiles {
  /** With its missing parents; the new entries are durable. */
  makeDirectory(path: string): Promise<void>;
  /** Creates or replaces; the content is durable, the name is not. */
  writeSynced(path: string, content: Uint8Array): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** Makes the names in the directory durable. */
  syncDirectory(path: string): Promise<void>;
  /** Missing is fine. */
  remove(path: string): Promise<void>;
  /** Missing is fine. */
  removeTree(path: string): Promise<void>;
  read(path: string): Promise<Buffer>;
  /** The names in a directory, sorted; none when it is missing. */
  list(path: string): Promise<readonly string[]>;
  /** Null when it is missing. */
  size(path: string): Promise<FileSize | null>;
  /** A name for a file that is kept elsewhere, and is nobody's to remove here; replaces an earlier one. The name is not durable. */
  linkTo(path: string, target: string): Promise<void>;
  /** Creates a file of that size without blocks, durable with its name; keeps one that is there. */
  createSparse(path: string, sizeBytes: number): Promise<void>;
  /** Keeps other processes out until it is called off or this process ends, however. IN_USE. */
  lock(path: string): Promise<() => void>;
}

export interface FileSize {
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
}
