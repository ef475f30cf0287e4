/**
 * What lib exports and nobody imports, tests included. A type that its own file
 * uses names a part of an exported signature and may stay. Counted: see ratchet.ts.
 */
import { blankLiterals } from "./blank-literals.js";
import { isEntry } from "./check-dead-files.js";
import type { Finding } from "./finding.js";
import { importsOf } from "./modules.js";
import { filesBelow, lineAt, type SourceTree } from "./source-tree.js";

const EXPORT =
  /^export (?:declare )?(?:abstract )?(?:async )?(const|let|function\*?|class|interface|type|enum) (\w+)/gm;

export function unusedExports(tree: SourceTree): Finding[] {
  const used = usedNames(tree);
  return filesBelow(tree, "lib", /\.ts$/)
    .filter(({ path }) => !isEntry(path))
    .flatMap(({ path, text }) => {
      const names = used.get(path);
      if (names === "all") return [];
      const code = blankLiterals(text, "ts");
      return [...code.matchAll(EXPORT)]
        .filter(([, kind, name = ""]) => !names?.has(name) && !isOwnType(code, kind, name))
        .map((match) => ({
          path,
          line: lineAt(text, match.index),
          message: `exports ${match[2] ?? ""}, which nobody imports`,
        }));
    });
}

function usedNames(tree: SourceTree): Map<string, Set<string> | "all"> {
  const used = new Map<string, Set<string> | "all">();
  for (const { path } of tree.values()) {
    if (!/\.(?:ts|mts|mjs|js)$/.test(path)) continue;
    for (const { file, names } of importsOf(tree, path)) {
      const known = file === null ? undefined : (used.get(file) ?? new Set<string>());
      if (file === null || known === undefined) continue;
      if (names === null || known === "all") used.set(file, "all");
      else used.set(file, new Set([...known, ...names]));
    }
  }
  return used;
}

function isOwnType(code: string, kind: string | undefined, name: string): boolean {
  if (kind !== "interface" && kind !== "type") return false;
  return [...code.matchAll(new RegExp(`\\b${name}\\b`, "g"))].length > 1;
}
