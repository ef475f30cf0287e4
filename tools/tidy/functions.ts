import { blankLiterals } from "./blank-literals.js";

export interface FunctionLength {
  /** Where its body opens, from 1. */
  readonly line: number;
  /** From the line of the opening brace to that of the closing one, both counted. */
  readonly lineCount: number;
}

/** All function bodies of a file, nested ones too: a brace behind a parameter list or an arrow. */
export function findFunctions(text: string, language: "ts" | "cc"): FunctionLength[] {
  const code = blankLiterals(text, language);
  const found: FunctionLength[] = [];
  const open: { readonly index: number; readonly isFunction: boolean; readonly line: number }[] =
    [];
  let line = 1;
  for (let index = 0; index < code.length; index++) {
    const character = code[index];
    if (character === "\n") line += 1;
    if (character === "{") {
      open.push({ index, line, isFunction: isFunctionHead(headBefore(code, index)) });
    }
    if (character !== "}") continue;
    const opening = open.pop();
    if (opening?.isFunction === true) {
      found.push({ line: opening.line, lineCount: line - opening.line + 1 });
    }
  }
  return found;
}

/**
 * What stands before the brace, back to the end of the statement before it,
 * with each bracketed group drawn together to its brackets.
 */
function headBefore(code: string, braceIndex: number): string {
  const head: string[] = [];
  for (let index = braceIndex - 1; index >= 0; index--) {
    const character = code[index] ?? "";
    if (character === ";" || character === "{" || character === "(" || character === "[") break;
    if (character === "," && head.join("").trim() === "") break;
    if (character === "}" && /^\s*\n/.test(code.slice(index + 1, index + 200))) break;
    const opener = OPENERS[character];
    if (opener === undefined) {
      head.push(character);
      continue;
    }
    const groupStart = matchBack(code, index, opener, character);
    if (opener === "(") head.push(")", wordBefore(code, groupStart), "(");
    index = groupStart;
    if (opener === "[") head.push("]", "[");
  }
  return head.toReversed().join("");
}

const OPENERS: Readonly<Record<string, string>> = { ")": "(", "]": "[", "}": "{" };

function matchBack(code: string, closeIndex: number, open: string, close: string): number {
  let depth = 0;
  for (let index = closeIndex; index >= 0; index--) {
    if (code[index] === close) depth += 1;
    if (code[index] === open) depth -= 1;
    if (depth === 0) return index;
  }
  return 0;
}

/** Marks the group of a control statement, so that it is not taken for parameters. */
function wordBefore(code: string, index: number): string {
  const word = /(\w+)\s*$/.exec(code.slice(Math.max(0, index - 40), index))?.[1] ?? "";
  return CONTROL.has(word) ? "#" : "";
}

const CONTROL = new Set(["if", "for", "while", "switch", "catch", "with", "constexpr", "await"]);

/** `head` holds "()" for a parameter list, "(#)" for a control statement's condition. */
function isFunctionHead(head: string): boolean {
  const end = head.trimEnd();
  if (end.endsWith("=>") || end.endsWith("[]")) return true;
  if (/[<|&=?]$/.test(end)) return false;
  const closers = [...end.matchAll(/(?<!#)\)/g)];
  return closers.some(({ index }) => BEHIND_PARAMETERS.test(end.slice(index + 1).trim()));
}

/** A return type, an initializer list, qualifiers; or nothing. */
const BEHIND_PARAMETERS = /^(?:$|:|->|const\b|noexcept\b|override\b|final\b|mutable\b|try\b)/;
