import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { GRANULARITY } from "./scene.js";

/** Among bytes that are different in every layer: random ids. */
const IN_HEADER = 20;

/** The layer that holds a block of this value, changed by a bit: there, or in its header. */
export async function damageLayer(
  root: string,
  value: number,
  where: "data" | "header",
): Promise<void> {
  for (const name of await readdir(root, { recursive: true })) {
    if (!name.endsWith(".layer")) continue;
    const path = join(root, name);
    const content = await readFile(path);
    const dataOffset = content.indexOf(Buffer.alloc(GRANULARITY, value), GRANULARITY);
    if (dataOffset < 0) continue;
    const offset = where === "data" ? dataOffset : IN_HEADER;
    await using file = await open(path, "r+");
    await file.write(Buffer.of((content[offset] ?? 0) ^ 1), 0, 1, offset);
    return;
  }
  throw new Error(`no layer holds a block of ${value}`);
}
