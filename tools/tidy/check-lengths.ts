/** No function over 70 lines, no file over 600; those over 40 and 400 are counted. */
import type { Finding } from "./finding.js";
import { findFunctions } from "./functions.js";
import type { SourceFile, SourceTree } from "./source-tree.js";

const FUNCTION_LINES_MAX = 70;
const FUNCTION_LINES_COUNTED = 40;
const FILE_LINES_MAX = 600;
const FILE_LINES_COUNTED = 400;

export function checkLengths(tree: SourceTree): Finding[] {
  return [...longFunctions(tree, FUNCTION_LINES_MAX), ...longFiles(tree, FILE_LINES_MAX)];
}

export function functionsOver40Lines(tree: SourceTree): Finding[] {
  return longFunctions(tree, FUNCTION_LINES_COUNTED);
}

export function filesOver400Lines(tree: SourceTree): Finding[] {
  return longFiles(tree, FILE_LINES_COUNTED);
}

function longFunctions(tree: SourceTree, most: number): Finding[] {
  return codeFiles(tree).flatMap(({ file, language }) =>
    findFunctions(file.text, language)
      .filter(({ lineCount }) => lineCount > most)
      .map(({ line, lineCount }) => ({
        path: file.path,
        line,
        message: `a function of ${lineCount} lines, over ${most}`,
      })),
  );
}

function longFiles(tree: SourceTree, most: number): Finding[] {
  return codeFiles(tree).flatMap(({ file }) => {
    const lineCount = file.text.split("\n").length - 1;
    return lineCount > most
      ? [{ path: file.path, message: `${lineCount} lines, over ${most}` }]
      : [];
  });
}

interface CodeFile {
  readonly file: SourceFile;
  readonly language: "ts" | "cc";
}

function codeFiles(tree: SourceTree): CodeFile[] {
  return [...tree.values()].flatMap((file): CodeFile[] => {
    if (/\.(?:ts|mts|mjs|js)$/.test(file.path)) return [{ file, language: "ts" }];
    return /\.(?:cc|h)$/.test(file.path) ? [{ file, language: "cc" }] : [];
  });
}
