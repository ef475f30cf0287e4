/** What belongs to work under way, or to one machine, and not into the repository. */
import type { Finding } from "./finding.js";
import { lineAt, type SourceFile, type SourceTree } from "./source-tree.js";

interface Leftover {
  readonly where: RegExp;
  readonly pattern: RegExp;
  readonly message: string;
}

const CODE = /\.(?:ts|mts|mjs|js|cc|h|sh|gyp)$|^(?:tools|\.ci|bin)\/|^CMakeLists\.txt$/;
const TEST = /^(?:test|benchmarks)\/.*\.(?:ts|mts|mjs)$/;
const LIB_WITHOUT_TERMINAL = /^lib\/(?!cli\/|daemon\/demo\/)/;
/** Put together here, so that this file does not hold what it looks for. */
const UNFINISHED = ["TO" + "DO", "FIX" + "ME", "X".repeat(3), "HA" + "CK"].join("|");
const FILE_BYTES_MAX = 1 << 20;

const LEFTOVERS: readonly Leftover[] = [
  { where: CODE, pattern: new RegExp(`\\b(?:${UNFINISHED})\\b`, "g"), message: "unfinished work" },
  {
    where: TEST,
    pattern: /\.(?:only|skip|todo)\(|\b(?:only|todo): true/g,
    message: "a test that is left out; a missing tool is given as a reason, { skip: reason }",
  },
  {
    where: LIB_WITHOUT_TERMINAL,
    pattern: /\bconsole\.\w+\(/g,
    message: "only the command line and the demonstration print",
  },
  {
    where: /./,
    pattern: /(?<![\w.}-])\/(?:home|root|work|Users)\/[\w.-]+/g,
    message: "a path of one machine",
  },
];

export function checkLeftovers(tree: SourceTree): Finding[] {
  return [...tree.values()].flatMap((file) => [...leftoversIn(file), ...oversize(file)]);
}

function leftoversIn({ path, text }: SourceFile): Finding[] {
  return LEFTOVERS.filter(({ where }) => where.test(path)).flatMap(({ pattern, message }) =>
    [...text.matchAll(pattern)].map((match) => ({
      path,
      line: lineAt(text, match.index),
      message: `${match[0]}: ${message}`,
    })),
  );
}

function oversize({ path, sizeBytes }: SourceFile): Finding[] {
  if (sizeBytes <= FILE_BYTES_MAX) return [];
  return [{ path, message: `${sizeBytes} bytes: files over 1 MiB do not belong here` }];
}
