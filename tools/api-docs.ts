/**
 * docs/api.md, from the declarations that the compiler writes: each exported
 * name with its comment and its signature. Plain text work: the declarations
 * are one a statement, and what they belong to begins at the line's start.
 */
import { readFileSync } from "node:fs";
import { posix } from "node:path";

export const API_PATH = "docs/api.md";

const ENTRIES = [
  { name: "tidemark", path: "dist/index.d.ts" },
  { name: "tidemark/testing", path: "dist/testing.d.ts" },
] as const;

/** A longer declaration is a table of data; its first line will do. */
const DECLARATION_LINES_MAX = 90;

export function apiDocument(root: string): string {
  const sections = ENTRIES.map(({ name, path }) => sectionOf(root, name, path));
  return `<!-- Generated from the declarations by \`npm run docs\`. -->\n\n# API\n\n${sections.join("\n")}`;
}

function sectionOf(root: string, name: string, path: string): string {
  const text = readFileSync(posix.join(root, path), "utf8");
  const intro = proseOf(/^\/\*\*[\s\S]*?\*\//.exec(text)?.[0] ?? "");
  const entries = exportedNames(text).map(({ exported, from }) => {
    const modulePath = from === null ? path : posix.join(posix.dirname(path), from);
    return entryOf(exported, readFileSync(posix.join(root, modulePath), "utf8"));
  });
  return `## \`${name}\`\n\n${intro}\n\n${entries.join("\n")}`;
}

/** Re-exports with the module that they are from, own ones with null; in alphabetical order. */
function exportedNames(text: string): { exported: string; from: string | null }[] {
  const again = [...text.matchAll(/^export (?:type )?\{([^}]*)\} from "([^"]+)";/gm)].flatMap(
    ([, names = "", module = ""]) =>
      names.split(",").map((name) => ({
        exported: name.trim().replace(/^type /, ""),
        from: module.replace(/\.js$/, ".d.ts"),
      })),
  );
  const own = [...text.matchAll(/^export declare \w+ (\w+)/gm)].map(([, exported = ""]) => ({
    exported,
    from: null,
  }));
  return [...again, ...own]
    .filter(({ exported }) => exported !== "")
    .toSorted((a, b) => (a.exported < b.exported ? -1 : 1));
}

/** The comment right before the declaration, and the declaration to its end. */
function entryOf(name: string, text: string): string {
  const declaration = new RegExp(
    String.raw`^export (?:declare )?(?:abstract )?(?:class|interface|type|const|function) ${name}\b`,
    "m",
  ).exec(text);
  if (declaration === null)
    throw new Error(`Cannot document ${name}: its declaration was not found.`);
  const before = text.slice(0, declaration.index);
  const start = before.lastIndexOf("/**");
  const comment = before.trimEnd().endsWith("*/") && start >= 0 ? before.slice(start) : "";
  const rest = text.slice(declaration.index);
  const end = /\n(?=export |declare |import |\/\*\*)|$(?![\s\S])/.exec(rest)?.index ?? rest.length;
  const prose = proseOf(comment);
  return `### ${name}\n\n${prose === "" ? "" : `${prose}\n\n`}\`\`\`ts\n${signatureOf(rest.slice(0, end))}\n\`\`\`\n`;
}

function proseOf(comment: string): string {
  return comment
    .replace(/^\s*\/\*\*|\*\/\s*$/g, "")
    .split("\n")
    .map((line) => line.replace(/^\s*\* ?/, "").trim())
    .join("\n")
    .replace(/@packageDocumentation/, "")
    .trim();
}

function signatureOf(declaration: string): string {
  const lines = declaration
    .replace(/^export (?:declare )?/, "")
    .trimEnd()
    .split("\n")
    .filter((line) => !/^\s*(?:#private|private constructor\(.*\));$/.test(line))
    .map((line) => line.replace(/^(?: {4})+/, (indent) => indent.slice(indent.length / 2)));
  return lines.length > DECLARATION_LINES_MAX ? `${lines[0] ?? ""} /* ... */ }` : lines.join("\n");
}
