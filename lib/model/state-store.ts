/**
 * Small durable documents with compare-and-set: relationship state, settings,
 * in-doubt notes. broker/ implements it on SQLite for a single host (and on
 * etcd for clusters); model/memory-state-store.ts in memory. Contract suite:
 * test/contracts/state-store.ts.
 */
export interface StateStore {
  get(key: string): Promise<StateDocument | null>;
  /** In key order. */
  list(prefix: string): Promise<readonly StateDocument[]>;
  /**
   * Durable when it resolves; answers the new version. `expectedVersion`: the
   * version read before, 0 for "must not exist", absent for "whatever is
   * there"; CONFLICT otherwise. `value` is JSON.
   */
  put(key: string, value: unknown, expectedVersion?: number): Promise<number>;
  delete(key: string, expectedVersion?: number): Promise<void>;
  close(): Promise<void>;
}

export interface StateDocument {
  readonly key: string;
  readonly value: unknown;
  /** From 1, rising with each put of the key. */
  readonly version: number;
}
