import { execFileSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** A file of the repository; the text is "" for one that is not text. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
  readonly sizeBytes: number;
}

/** The files that are committed or about to be, by path. */
export type SourceTree = ReadonlyMap<string, SourceFile>;

const TEXT = /\.(?:ts|mts|mjs|js|json|md|cc|h|sh|txt|gyp|yml)$|^CMakeLists\.txt$/;

export function readSourceTree(root: string): SourceTree {
  const listed = execFileSync("git", ["ls-files", "-z", "-co", "--exclude-standard"], {
    cwd: root,
    encoding: "utf8",
    maxBuffer: 64 << 20,
  });
  const tree = new Map<string, SourceFile>();
  for (const path of new Set(listed.split("\0"))) {
    const stats = path === "" ? undefined : statSync(join(root, path), { throwIfNoEntry: false });
    if (stats?.isFile() !== true) continue;
    const text = isText(path) ? readFileSync(join(root, path), "utf8") : "";
    tree.set(path, { path, text, sizeBytes: stats.size });
  }
  return tree;
}

/** Scripts without a suffix are text too. */
function isText(path: string): boolean {
  return TEXT.test(path) || /^(?:tools|\.ci|bin)\/[^.]+$/.test(path);
}

/** A tree in memory, for tests of the checks. */
export function treeOf(files: Readonly<Record<string, string>>): SourceTree {
  return new Map(
    Object.entries(files).map(([path, text]) => [path, { path, text, sizeBytes: text.length }]),
  );
}

export function filesBelow(tree: SourceTree, folder: string, suffixes: RegExp): SourceFile[] {
  return [...tree.values()].filter(
    ({ path }) => path.startsWith(`${folder}/`) && suffixes.test(path),
  );
}

export function lineAt(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}
