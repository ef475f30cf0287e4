/** Which folder of native may include which; napi.h only in the addon. */
import type { Finding } from "./finding.js";
import { filesBelow, lineAt, type SourceTree } from "./source-tree.js";

const MAY_INCLUDE: Readonly<Record<string, readonly string[]>> = {
  common: [],
  bitmap: ["common"],
  device: ["common"],
  tracking: ["common", "bitmap", "device"],
  layers: ["common", "device"],
  /** Not tracking: the server does not know that what it serves is tracked. */
  nbd: ["common", "device"],
  /** Not nbd: to the kernel's client it is a server like any other. */
  attach: ["common", "device"],
  /** A program of its own, built where libfuse3 is. */
  fuse: ["common", "device"],
  fuzz: ["common", "device", "nbd", "test"],
  addon: ["common", "bitmap", "device", "tracking", "layers", "nbd", "attach"],
  test: ["common", "bitmap", "device", "tracking", "layers", "nbd", "attach"],
};

const INCLUDE = /^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]/gm;

export function checkNativeIncludes(tree: SourceTree): Finding[] {
  return filesBelow(tree, "native", /\.(?:cc|h)$/).flatMap(({ path, text }) =>
    [...text.matchAll(INCLUDE)].flatMap((match) => {
      const message = judge(path, match[1] === '"', match[2] ?? "", tree);
      return message === null ? [] : [{ path, line: lineAt(text, match.index), message }];
    }),
  );
}

function judge(path: string, isQuoted: boolean, included: string, tree: SourceTree): string | null {
  const folder = path.split("/")[1] ?? "";
  if (/^(?:napi|node_api|node|uv|v8)\.h$/.test(included)) {
    return folder === "addon" ? null : `only native/addon may include ${included}`;
  }
  if (!isQuoted) return null;
  const may = MAY_INCLUDE[folder];
  if (may === undefined) return `native/${folder} has no include rule`;
  const target = included.includes("/") ? (included.split("/")[0] ?? "") : folder;
  if (target !== folder && !may.includes(target)) return `${folder} may not include ${included}`;
  const file = included.includes("/") ? `native/${included}` : `native/${folder}/${included}`;
  return tree.has(file) || !(target in MAY_INCLUDE) ? null : `${included} is not there`;
}
