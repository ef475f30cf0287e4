/**
 * Every file of lib is reached from what the package exports or starts. A seam's
 * implementation in memory lives beside the seam, and is reached by tests.
 */
import type { Finding } from "./finding.js";
import { importsOf } from "./modules.js";
import { filesBelow, type SourceTree } from "./source-tree.js";

const ENTRY = /^lib\/(?:index|testing|daemon\/main|daemon\/[\w-]+-worker)\.ts$/;

const IN_MEMORY = /^lib\/model\/memory-[\w-]+\.ts$/;

export function isEntry(path: string): boolean {
  return ENTRY.test(path);
}

export function checkDeadFiles(tree: SourceTree): Finding[] {
  const files = filesBelow(tree, "lib", /\.ts$/).map(({ path }) => path);
  const reached = new Set<string>();
  const visit = (path: string): void => {
    if (reached.has(path)) return;
    reached.add(path);
    for (const { file } of importsOf(tree, path)) if (file !== null) visit(file);
  };
  for (const path of files) if (isEntry(path)) visit(path);
  for (const { path } of filesBelow(tree, "test", /\.m?ts$/)) {
    for (const { file } of importsOf(tree, path)) {
      if (file !== null && IN_MEMORY.test(file)) visit(file);
    }
  }
  return files
    .filter((path) => !reached.has(path))
    .map((path) => ({ path, message: "nothing that the package exports or starts imports it" }));
}
