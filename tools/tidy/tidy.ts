/**
 * The rules of the house that a program can check. Prints what breaks them and
 * fails; `--lower` writes the counts of the ratchet down when they have fallen.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { API_PATH, apiDocument } from "../api-docs.js";
import { ERRORS_PATH, errorsDocument } from "../error-docs.js";
import { STATES_PATH, statesDocument } from "../state-docs.js";
import { checkDeadFiles } from "./check-dead-files.js";
import { checkGenerated } from "./check-generated.js";
import { checkImportCycles } from "./check-import-cycles.js";
import { checkImportRules } from "./check-import-rules.js";
import { checkLeftovers } from "./check-leftovers.js";
import { checkLengths, filesOver400Lines, functionsOver40Lines } from "./check-lengths.js";
import { checkLinks } from "./check-links.js";
import { checkManifest } from "./check-manifest.js";
import { checkNativeIncludes } from "./check-native-includes.js";
import { checkNativeSources } from "./check-native-sources.js";
import { checkRootEntries } from "./check-root-entries.js";
import { unusedExports } from "./check-unused-exports.js";
import { type Finding, formatFinding } from "./finding.js";
import {
  checkRatchet,
  lowered,
  type Offenders,
  RATCHET_PATH,
  type RatchetCounts,
} from "./ratchet.js";
import { readSourceTree } from "./source-tree.js";

const root = fileURLToPath(new URL("../../", import.meta.url));
process.chdir(root);
const tree = readSourceTree(root);
const offenders: Offenders = {
  functionsOver40Lines: functionsOver40Lines(tree),
  filesOver400Lines: filesOver400Lines(tree),
  unusedExports: unusedExports(tree),
};
let committed = JSON.parse(readFileSync(RATCHET_PATH, "utf8")) as RatchetCounts;
if (process.argv.includes("--lower")) {
  committed = lowered(committed, offenders);
  writeFileSync(RATCHET_PATH, `${JSON.stringify(committed, null, 2)}\n`);
}

const findings: Finding[] = [
  ...checkImportRules(tree),
  ...checkImportCycles(tree),
  ...checkNativeIncludes(tree),
  ...checkNativeSources(tree),
  ...checkLengths(tree),
  ...checkRatchet(committed, offenders),
  ...checkDeadFiles(tree),
  ...checkLeftovers(tree),
  ...checkRootEntries(tree),
  ...checkLinks(tree),
  ...checkManifest(tree),
  ...checkGenerated(tree, ERRORS_PATH, errorsDocument(), "npm run docs"),
  ...checkGenerated(tree, API_PATH, apiDocument(root), "npm run docs"),
  ...checkGenerated(tree, STATES_PATH, statesDocument(root), "npm run docs"),
];
for (const finding of findings) console.log(formatFinding(finding));
console.log(
  findings.length === 0 ? `tidy: ${tree.size} files` : `tidy: ${findings.length} findings`,
);
process.exitCode = findings.length === 0 ? 0 : 1;
