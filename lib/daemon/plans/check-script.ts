import { constants } from "node:fs";
import { access, lstat, realpath } from "node:fs/promises";
import { dirname, isAbsolute } from "node:path";
import { TidemarkError } from "../../model/errors.js";

const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;

/**
 * A plan's script runs as the service does: nobody but root and the service's user may be
 * able to change it, or to put another one into its place. INVALID_ARGUMENT, NOT_FOUND,
 * FORBIDDEN with the reason.
 */
export async function checkScript(path: string): Promise<void> {
  if (!isAbsolute(path)) throw mayNotRun("INVALID_ARGUMENT", path, "its path is not absolute");
  const real = await realpath(path).catch(() => null);
  if (real === null) throw mayNotRun("NOT_FOUND", path, "it is not there");
  if (real !== path) {
    throw mayNotRun(
      "INVALID_ARGUMENT",
      path,
      "its path has a link or is not plain",
      `Give ${real}.`,
    );
  }
  const file = await lstat(path);
  if (!file.isFile()) throw mayNotRun("INVALID_ARGUMENT", path, "it is no file");
  requireTrusted(path, path, file);
  for (let directory = dirname(path); ; directory = dirname(directory)) {
    requireTrusted(path, directory, await lstat(directory));
    if (directory === dirname(directory)) break;
  }
  const isExecutable = await access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
  if (!isExecutable) throw mayNotRun("FORBIDDEN", path, "it may not be executed", "Use chmod u+x.");
}

/** In a sticky directory only the owner of an entry can replace it. */
function requireTrusted(
  script: string,
  path: string,
  { uid, mode }: { readonly uid: number; readonly mode: number },
): void {
  const what = path === script ? "it" : path;
  if (uid !== 0 && uid !== process.getuid?.()) {
    throw mayNotRun("FORBIDDEN", script, `${what} belongs to neither root nor the service's user`);
  }
  const isSticky = path !== script && (mode & STICKY) !== 0;
  if ((mode & WRITABLE_BY_OTHERS) === 0 || isSticky) return;
  throw mayNotRun("FORBIDDEN", script, `others may write to ${what}`, `Use chmod go-w ${path}.`);
}

function mayNotRun(
  code: "INVALID_ARGUMENT" | "NOT_FOUND" | "FORBIDDEN",
  path: string,
  why: string,
  hint = "Scripts of plans are absolute paths on this host, of root or the service's user, and writable by nobody else.",
): TidemarkError {
  return new TidemarkError(code, `Cannot run ${path}: because ${why}.`, { hint });
}
