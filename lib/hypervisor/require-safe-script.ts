import { realpath, stat } from "node:fs/promises";
import { dirname, isAbsolute } from "node:path";
import { TidemarkError } from "../model/errors.js";

const [WRITABLE_BY_GROUP, WRITABLE_BY_ALL, STICKY, EXECUTABLE] = [0o020, 0o002, 0o1000, 0o111];

/**
 * Throws unless the script is one that nobody but root and the service's user can have made
 * what it is: it is run with the service's rights.
 */
export async function requireSafeScript(path: string): Promise<void> {
  if (!isAbsolute(path)) throw unfit(path, "its path is not absolute");
  const real = await realpath(path).catch(() => null);
  if (real === null) throw unfit(path, "it is not there", "NOT_FOUND");
  const { mode, uid, gid, isFile } = await facts(real);
  if (!isFile || (mode & EXECUTABLE) === 0) throw unfit(path, "it is no executable file");
  if (isOthers({ mode, uid, gid })) throw unfit(path, `others may write to ${real}`, "FORBIDDEN");
  for (const directory of [...directoriesOf(path), ...directoriesOf(real)]) {
    const found = await facts(directory);
    // Of a sticky directory, others can neither remove nor rename what is not theirs.
    if ((found.mode & STICKY) === 0 && isOthers(found)) {
      throw unfit(path, `others may write to ${directory}`, "FORBIDDEN");
    }
  }
}

interface Ownership {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

async function facts(path: string): Promise<Ownership & { readonly isFile: boolean }> {
  const found = await stat(path);
  return { mode: found.mode, uid: found.uid, gid: found.gid, isFile: found.isFile() };
}

function isOthers({ mode, uid, gid }: Ownership): boolean {
  if (uid !== 0 && uid !== process.getuid?.()) return true;
  if ((mode & WRITABLE_BY_ALL) !== 0) return true;
  return (mode & WRITABLE_BY_GROUP) !== 0 && gid !== 0 && gid !== process.getgid?.();
}

function directoriesOf(path: string): string[] {
  const directories = [];
  for (let at = dirname(path); ; at = dirname(at)) {
    directories.push(at);
    if (at === dirname(at)) return directories;
  }
}

function unfit(
  path: string,
  why: string,
  code: "INVALID_ARGUMENT" | "NOT_FOUND" | "FORBIDDEN" = "INVALID_ARGUMENT",
): TidemarkError {
  return new TidemarkError(code, `Cannot use ${path} as a script: because ${why}.`, {
    hint: "Give the absolute path of an executable file that only root, or the service's user, can write to.",
  });
}
