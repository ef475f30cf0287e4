import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** A helper program of native/test; null when it is not built. */
export function nativeTool(name: string): string | null {
  const path = fileURLToPath(new URL(`../build-native/${name}`, import.meta.url));
  return existsSync(path) ? path : null;
}

/** Its JSON lines. */
export function parseLines<T>(text: string, one: (value: unknown) => T): T[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => one(JSON.parse(line)));
}
