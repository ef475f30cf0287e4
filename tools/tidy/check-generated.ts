/** Generated documents are what their generators would write now. */
import type { Finding } from "./finding.js";
import type { SourceTree } from "./source-tree.js";

export function checkGenerated(
  tree: SourceTree,
  path: string,
  expected: string,
  command: string,
): Finding[] {
  if (tree.get(path)?.text === expected) return [];
  return [{ path, message: `is out of date: run ${command}` }];
}
