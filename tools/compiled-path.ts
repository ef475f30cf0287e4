import { join } from "node:path";

export const COMPILED = "build-tests";

/** Where tools/compile-tests.ts leaves the JavaScript of a source. */
export function compiledPath(source: string): string {
  return join(COMPILED, source.replace(/\.ts$/, ".js"));
}
