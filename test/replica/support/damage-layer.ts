import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { GRANULARITY } from "./scene.js";

/** The layer that holds a block of this value, changed by a bit: there, or in its header. */
export async function damageLayer(
  root: string,
  value: number,
  where: "data" | "header",
): Promise<void> {
  for (const name of await readdir(root, { recursive: true })) {
    if (!name.endsWith(".layer")) continue;
    const path = join(root, name);
    const at = (await readFile(path)).indexOf(Buffer.alloc(GRANULARITY, value), GRANULARITY);
    if (at < 0) continue;
    await using file = await open(path, "r+");
    await file.write(Buffer.of(value ^ 1), 0, 1, where === "data" ? at : 20);
    return;
  }
  throw new Error(`no layer holds a block of ${value}`);
}
