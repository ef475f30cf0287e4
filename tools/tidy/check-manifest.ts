/** Exact versions in package.json; no registry's addresses in the lock file. */
import type { Finding } from "./finding.js";
import { lineAt, type SourceTree } from "./source-tree.js";

const EXACT = /^\d+\.\d+\.\d+(?:-[\w.]+)?$/;
const SECTIONS = ["dependencies", "devDependencies", "optionalDependencies", "overrides"] as const;

type Manifest = Partial<Record<(typeof SECTIONS)[number], Record<string, unknown>>>;

export function checkManifest(tree: SourceTree): Finding[] {
  return [...rangesIn(tree), ...addressesIn(tree)];
}

function rangesIn(tree: SourceTree): Finding[] {
  const path = "package.json";
  const manifest = JSON.parse(tree.get(path)?.text ?? "{}") as Manifest;
  return SECTIONS.flatMap((section) =>
    Object.entries(manifest[section] ?? {})
      .filter(([, version]) => typeof version !== "string" || !EXACT.test(version))
      .map(([name, version]) => ({
        path,
        message: `${section}: ${name} is ${JSON.stringify(version)}, not an exact version`,
      })),
  );
}

function addressesIn(tree: SourceTree): Finding[] {
  const path = "package-lock.json";
  const text = tree.get(path)?.text ?? "";
  return [...text.matchAll(/"resolved": "https?:[^"]*"/g)].map((match) => ({
    path,
    line: lineAt(text, match.index),
    message: "names a registry's host; install with omit-lockfile-registry-resolved=true",
  }));
}
