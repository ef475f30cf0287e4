import { posix } from "node:path";
import { lineAt, type SourceTree } from "./source-tree.js";

/** One import, re-export, import() or URL of a worker's file in a TypeScript file. */
export interface ModuleImport {
  readonly from: string;
  readonly line: number;
  /** A file of the repository, or null for a package and for what is not there. */
  readonly file: string | null;
  /** A package's name, or null for a file. */
  readonly packageName: string | null;
  /** Erased by the compiler. */
  readonly isType: boolean;
  /** The names it takes; null for all of them (`* as`, a bare import, import() without `.name` behind it). */
  readonly names: readonly string[] | null;
}

const FROM = /(?:^|\n)\s*(?:import|export)\s+(type\s+)?([^;"']*?)\s*from\s+"([^"]+)"/g;
const BARE = /(?:^|\n)\s*import\s+"([^"]+)"/g;
const CALL =
  /\b(?:import|require)\("([^"]+)"\)(?:\)\.(\w+))?|new URL\("(\.[^"]+-worker\.js)", import\.meta\.url\)/g;

export function importsOf(tree: SourceTree, path: string): ModuleImport[] {
  const text = tree.get(path)?.text ?? "";
  const found: ModuleImport[] = [];
  const add = (
    index: number,
    specifier: string,
    names: readonly string[] | null,
    isType = false,
  ) => {
    const line = lineAt(text, text.slice(index).search(/\S/) + index);
    const file = resolveFile(tree, path, specifier);
    const isPackage = !specifier.startsWith(".") && !specifier.startsWith("#");
    const packageName = isPackage ? packageOf(specifier) : null;
    found.push({ from: path, line, file, packageName, names, isType });
  };
  for (const match of text.matchAll(FROM)) {
    add(match.index, match[3] ?? "", namesIn(match[2] ?? ""), match[1] !== undefined);
  }
  for (const match of text.matchAll(BARE)) add(match.index, match[1] ?? "", null);
  for (const match of text.matchAll(CALL)) {
    const [, specifier, name, worker] = match;
    add(match.index, specifier ?? worker ?? "", name === undefined ? null : [name]);
  }
  return found;
}

/** "a, type B, c as d" within braces; a default import counts as "default". */
function namesIn(clause: string): readonly string[] | null {
  if (clause.includes("*")) return null;
  const braces = /\{([^}]*)\}/.exec(clause);
  const named = (braces?.[1] ?? "").split(",").map((part) => part.trim().replace(/^type\s+/, ""));
  const names = named.filter((part) => part !== "").map((part) => part.split(/\s+as\s+/)[0] ?? "");
  return /^\w/.test(clause) ? ["default", ...names] : names;
}

function resolveFile(tree: SourceTree, from: string, specifier: string): string | null {
  const target = specifier.startsWith("#lib/")
    ? `lib/${specifier.slice("#lib/".length)}`
    : specifier.startsWith(".")
      ? posix.join(posix.dirname(from), specifier).replace(/^dist\//, "lib/")
      : null;
  if (target === null) return null;
  const asTypeScript = target.replace(/\.js$/, ".ts");
  return [asTypeScript, target].find((candidate) => tree.has(candidate)) ?? null;
}

function packageOf(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}

/** "tracking" for lib/tracking/x.ts, "index.ts" for lib/index.ts. */
export function libFolderOf(path: string): string {
  return path.split("/")[1] ?? "";
}
