/** Relative links in Markdown lead to a file, and their fragment to a heading of it. */
import { posix } from "node:path";
import type { Finding } from "./finding.js";
import { lineAt, type SourceTree } from "./source-tree.js";

const LINK = /\]\((?!https?:|mailto:)([^()\s]*)\)/g;

export function checkLinks(tree: SourceTree): Finding[] {
  const folders = new Set([...tree.keys()].flatMap(foldersOf));
  return [...tree.values()]
    .filter(({ path }) => path.endsWith(".md"))
    .flatMap(({ path, text }) =>
      [...text.matchAll(LINK)].flatMap((match) => {
        const [file = "", fragment] = (match[1] ?? "").split("#");
        const target =
          file === "" ? path : posix.join(posix.dirname(path), file).replace(/\/$/, "");
        const at = { path, line: lineAt(text, match.index) };
        if (!tree.has(target) && !folders.has(target)) {
          return [{ ...at, message: `links to ${target}, which is not there` }];
        }
        const isMissing = fragment !== undefined && !headingsOf(tree, target).has(fragment);
        return isMissing ? [{ ...at, message: `${target} has no heading #${fragment}` }] : [];
      }),
    );
}

function foldersOf(path: string): string[] {
  const parts = path.split("/").slice(0, -1);
  return parts.map((_part, index) => parts.slice(0, index + 1).join("/"));
}

/** As the usual renderers make anchors of headings. */
function headingsOf(tree: SourceTree, path: string): Set<string> {
  const headings = (tree.get(path)?.text ?? "").matchAll(/^#+ (.+)$/gm);
  return new Set(
    [...headings].map(([, heading = ""]) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, "")
        .trim()
        .replaceAll(" ", "-"),
    ),
  );
}
