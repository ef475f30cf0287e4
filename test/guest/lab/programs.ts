import { execFile } from "node:child_process";
import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";

const SYSTEM_FOLDERS = [
  "/usr/local/sbin",
  "/usr/sbin",
  "/sbin",
  "/usr/local/bin",
  "/usr/bin",
  "/bin",
];

const execute = promisify(execFile);

/** Standard output of a program of this host. */
export async function outputOf(program: string, ...rest: readonly string[]): Promise<string> {
  const { stdout } = await execute(program, rest, { maxBuffer: 1 << 26 });
  return stdout;
}

/** The program's path; null when the host has none of that name. */
export async function findProgram(name: string): Promise<string | null> {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), ...SYSTEM_FOLDERS];
  const paths = name.startsWith("/") ? [name] : folders.map((folder) => join(folder, name));
  for (const path of paths) {
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return path;
  }
  return null;
}

export async function requireProgram(name: string): Promise<string> {
  const path = await findProgram(name);
  if (path === null) throw new Error(`Cannot make a guest: because ${name} is not installed.`);
  return path;
}

/** The shared libraries that a program or library is linked with, its loader among them. */
export async function librariesOf(path: string): Promise<string[]> {
  const listing = await outputOf("ldd", path).catch(() => "");
  return [...listing.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1] ?? "");
}
