/**
 * The text with comments, and what strings and regular expressions hold, turned
 * into blanks: same length, same lines, so that braces and words can be counted
 * without a parser. Knows TypeScript and C++, as their formatters write them.
 */
export function blankLiterals(text: string, language: "ts" | "cc"): string {
  const pattern = language === "ts" ? TS_LITERAL : CC_LITERAL;
  return text.replace(pattern, (literal: string, before: string | undefined) => {
    const kept = before ?? "";
    return kept + literal.slice(kept.length).replace(/[^\n]/g, " ");
  });
}

const COMMENT = String.raw`\/\/[^\n]*|\/\*[\s\S]*?\*\/`;
const STRING = String.raw`"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'`;
/** With what stands before it, to tell it from a division. */
const REGEX = String.raw`([=(,:!&|?+[{;>]\s*|\breturn\s+)\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\/[a-z]*`;
/** One level of ${...} with nested templates is enough here. */
const TEMPLATE = "`(?:\\\\.|\\$\\{(?:[^{}`]|\\{[^{}]*\\}|`[^`]*`)*\\}|[^`\\\\])*`";
const RAW_STRING = String.raw`R"(?:\w*)\([\s\S]*?\)\w*"`;

const TS_LITERAL = new RegExp(`${REGEX}|${COMMENT}|${STRING}|${TEMPLATE}`, "g");
/** A digit separator (1'000) is no character literal. */
const CC_LITERAL = new RegExp(
  String.raw`((?<=\d)'(?=\d))|${RAW_STRING}|${COMMENT}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'`,
  "g",
);
