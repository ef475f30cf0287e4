import {
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  unlink,
} from "node:fs/promises";
import { dirname } from "node:path";
import { type ErrorCode, TidemarkError } from "../model/errors.js";
import type { FileSize, StoreFiles } from "./store-files.js";
import { StoreLock } from "./store-lock.js";

const CODES: Readonly<Record<string, ErrorCode>> = {
  ENOENT: "NOT_FOUND",
  ENOSPC: "NO_SPACE",
  EDQUOT: "NO_SPACE",
  EROFS: "READ_ONLY",
  EACCES: "READ_ONLY",
  EPERM: "READ_ONLY",
};

/** StoreFiles on the file system; readable by the owner alone, since it holds guests' data. */
export class NodeStoreFiles implements StoreFiles {
  async makeDirectory(path: string): Promise<void> {
    return guard("create", path, async () => {
      const first = await mkdir(path, { recursive: true, mode: 0o700 });
      if (first === undefined) return;
      // Every directory from the first new one's parent down got a new entry.
      for (let child = path; child.length >= first.length; child = dirname(child)) {
        await this.syncDirectory(dirname(child));
      }
    });
  }

  async writeSynced(path: string, content: Uint8Array): Promise<void> {
    return guard("write", path, async () => {
      await using file = await open(path, "w", 0o600);
      await file.writeFile(content);
      await file.sync();
    });
  }

  async rename(from: string, to: string): Promise<void> {
    return guard("rename", from, () => rename(from, to));
  }

  async linkTo(path: string, target: string): Promise<void> {
    return guard("link", path, async () => {
      const temporary = `${path}.link`;
      await rm(temporary, { force: true });
      await symlink(target, temporary);
      await rename(temporary, path);
    });
  }

  async syncDirectory(path: string): Promise<void> {
    return guard("sync", path, async () => {
      await using directory = await open(path, "r");
      await directory.sync();
    });
  }

  async remove(path: string): Promise<void> {
    return guard("remove", path, async () => {
      try {
        await unlink(path);
      } catch (thrown) {
        if (errnoOf(thrown) !== "ENOENT") throw thrown;
      }
    });
  }

  async removeTree(path: string): Promise<void> {
    return guard("remove", path, () => rm(path, { recursive: true, force: true, maxRetries: 3 }));
  }

  async read(path: string): Promise<Buffer> {
    return guard("read", path, () => readFile(path));
  }

  async list(path: string): Promise<readonly string[]> {
    return guard("list", path, async () => {
      try {
        return (await readdir(path)).sort();
      } catch (thrown) {
        if (errnoOf(thrown) === "ENOENT") return [];
        throw thrown;
      }
    });
  }

  async size(path: string): Promise<FileSize | null> {
    return guard("inspect", path, async () => {
      try {
        const { size, blocks } = await stat(path);
        return { sizeBytes: size, allocatedBytes: blocks * 512 };
      } catch (thrown) {
        if (errnoOf(thrown) === "ENOENT") return null;
        throw thrown;
      }
    });
  }

  async lock(path: string): Promise<() => void> {
    const lock = StoreLock.acquire(path);
    return () => lock.release();
  }

  async createSparse(path: string, sizeBytes: number): Promise<void> {
    return guard("create", path, async () => {
      await using file = await open(path, "a", 0o600);
      if ((await file.stat()).size < sizeBytes) await file.truncate(sizeBytes);
      await file.sync();
      await this.syncDirectory(dirname(path));
    });
  }
}

function errnoOf(thrown: unknown): string {
  const code = (thrown as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : "";
}

async function guard<T>(verb: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof TidemarkError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new TidemarkError(
      CODES[errnoOf(cause)] ?? "IO_ERROR",
      `Cannot ${verb} ${path}: because ${reason}.`,
      { cause },
    );
  }
}
