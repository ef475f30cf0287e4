import { readFile } from "node:fs/promises";
import t from "tap";

const IMPORT = /^(?:import|export)(?!\s+type\b)[^;]*?from\s+"([^"]+)"|import\("([^"]+)"\)/gm;

/** Every module that loading this one loads, by its text; types do not count. */
async function loadedBy(entry: URL, seen = new Map<string, URL>()): Promise<Set<string>> {
  const text = await readFile(entry, "utf8");
  for (const [, fixed, dynamic] of text.matchAll(IMPORT)) {
    const specifier = fixed ?? dynamic ?? "";
    if (seen.has(specifier) && !specifier.startsWith(".")) continue;
    if (!specifier.startsWith(".")) {
      seen.set(specifier, entry);
      continue;
    }
    const next = new URL(specifier, entry);
    if (seen.has(next.href)) continue;
    seen.set(next.href, entry);
    await loadedBy(next, seen);
  }
  return new Set(seen.keys());
}

const dist = new URL("../../dist/transport/", import.meta.url);
const isZstd = (name: string): boolean => name.includes("zstd");

for (const file of ["peer-server.js", "https-replica-client.js", "lane-pool.js"]) {
  void t.test(`${file} brings no zstd into the main thread`, async (t) => {
    const modules = [...(await loadedBy(new URL(file, dist)))];
    t.ok(modules.length > 4);
    t.same(modules.filter(isZstd), []);
  });
}

for (const file of ["lane.js", "ingest.js"]) {
  void t.test(
    `${file}, which runs in workers, does load zstd: the check above can fail`,
    async (t) => {
      t.not([...(await loadedBy(new URL(file, dist)))].filter(isZstd).length, 0);
    },
  );
}
