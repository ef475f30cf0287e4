import { open, unlink } from "node:fs/promises";
import { TidemarkError } from "../model/errors.js";

/** A file to create; what is there already is never overwritten. */
export interface NewFile {
  readonly path: string;
  readonly content: string;
  readonly mode: number;
}

/** Creates all of the files, durably, or none. */
export async function createFiles(files: readonly NewFile[]): Promise<void> {
  const created: string[] = [];
  try {
    for (const file of files) {
      await createFile(file);
      created.push(file.path);
    }
  } catch (thrown) {
    await Promise.allSettled(created.map((path) => unlink(path)));
    throw thrown;
  }
}

async function createFile(file: NewFile): Promise<void> {
  const handle = await open(file.path, "wx", file.mode).catch((thrown: unknown) => {
    throw refusal(file.path, thrown as NodeJS.ErrnoException);
  });
  try {
    await handle.writeFile(file.content);
    await handle.sync();
  } catch (thrown) {
    await unlink(file.path);
    throw refusal(file.path, thrown as NodeJS.ErrnoException);
  } finally {
    await handle.close();
  }
}

function refusal(path: string, cause: NodeJS.ErrnoException): TidemarkError {
  if (cause.code === "EEXIST") {
    return new TidemarkError("ALREADY_EXISTS", `Cannot create ${path}: because it exists.`, {
      hint: "Choose another directory, or move the file away if it is not needed any more.",
      cause,
    });
  }
  if (cause.code === "ENOENT") {
    return new TidemarkError(
      "NOT_FOUND",
      `Cannot create ${path}: because its directory is missing.`,
      { hint: "Create the directory.", cause },
    );
  }
  const code = cause.code === "ENOSPC" ? "NO_SPACE" : "IO_ERROR";
  return new TidemarkError(code, `Cannot create ${path}: because ${cause.message}.`, { cause });
}
