/** No file of lib reaches itself over its imports, but for the pairs named here. */
import type { Finding } from "./finding.js";
import { importsOf } from "./modules.js";
import { filesBelow, type SourceTree } from "./source-tree.js";

/** Imports of types, which do not exist at run time. */
const TYPES_BOTH_WAYS: Readonly<Record<string, string>> = {
  "lib/tracking/checkpoint.ts > lib/tracking/tracked-disk.ts":
    "a disk takes checkpoints and a checkpoint names its disks, both in the public API",
  "lib/tracking/backup.ts > lib/tracking/tracked-disk.ts":
    "as checkpoints: a disk begins backups and a backup names its disks",
};

export function checkImportCycles(tree: SourceTree): Finding[] {
  const findings: Finding[] = [];
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path);
    if (at >= 0) {
      const cycle = [...trail.slice(at), path];
      findings.push({ path, message: `imports itself: ${cycle.join(" > ")}` });
      return;
    }
    if (done.has(path)) return;
    for (const { file, isType } of importsOf(tree, path)) {
      const isAllowed = isType && `${path} > ${file ?? ""}` in TYPES_BOTH_WAYS;
      if (file !== null && !isAllowed) visit(file, [...trail, path]);
    }
    done.add(path);
  };
  for (const { path } of filesBelow(tree, "lib", /\.ts$/)) visit(path, []);
  return findings;
}
