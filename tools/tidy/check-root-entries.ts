/** The repository's top level holds what is listed here and nothing that a tool left behind. */
import type { Finding } from "./finding.js";
import type { SourceTree } from "./source-tree.js";

const ENTRIES = new Set(
  `.ci .clang-format .gitattributes .github .gitignore .taprc ARCHITECTURE.md CHANGELOG.md
   CMakeLists.txt CONTRIBUTING.md LICENSE README.md SECURITY.md benchmarks bin binding.gyp
   biome.json docs lib native .oxlintrc.json package-lock.json package.json test tools
   tsconfig.json tsconfig.test.json`.split(/\s+/),
);

export function checkRootEntries(tree: SourceTree): Finding[] {
  const entries = new Set([...tree.keys()].map((path) => path.split("/")[0] ?? ""));
  return [...entries]
    .filter((entry) => !ENTRIES.has(entry))
    .map((path) => ({ path, message: "does not belong to the top level" }));
}
