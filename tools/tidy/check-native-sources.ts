/** native/sources.txt names every source of the data plane and the addon, once, sorted. Programs of their own are globbed. */
import type { Finding } from "./finding.js";
import { filesBelow, type SourceTree } from "./source-tree.js";

const LIST_PATH = "native/sources.txt";

export function checkNativeSources(tree: SourceTree): Finding[] {
  const lines = (tree.get(LIST_PATH)?.text ?? "").split("\n").filter((line) => line !== "");
  const there = filesBelow(tree, "native", /\.cc$/)
    .map(({ path }) => path)
    .filter((path) => !/^native\/(?:test|fuse|fuzz)\//.test(path));
  return [
    ...lines.flatMap((line, index) => judgeLine(tree, lines, line, index)),
    ...there
      .filter((path) => !lines.includes(path))
      .map((path) => ({ path, message: `is missing from ${LIST_PATH}` })),
  ];
}

function judgeLine(tree: SourceTree, lines: string[], line: string, index: number): Finding[] {
  const at = { path: LIST_PATH, line: index + 1 };
  if (!tree.has(line)) return [{ ...at, message: `${line} is not there` }];
  const before = lines[index - 1];
  if (before === line) return [{ ...at, message: `${line} is listed twice` }];
  return before !== undefined && before > line ? [{ ...at, message: `${line} is not sorted` }] : [];
}
