/**
 * What the bitmaps of consumers outside Tidemark are called, in a small file beside
 * the dirty bitmap's own. The bits are found by an id that is made from the name
 * (target-id.ts), so nothing but what lists show is lost with this file: a name
 * that it has and the bitmap has not is no bitmap, and one that it lacks is still
 * found by whoever knows it.
 */
import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { toTidemarkError } from "../model/errors.js";
import { targetIdOf } from "./target-id.js";

interface NamesDocument {
  readonly version: 1;
  readonly names: readonly string[];
}

export class BitmapNames {
  readonly #path: string;
  #byId: ReadonlyMap<string, string>;
  #saving: Promise<void> = Promise.resolve();

  private constructor(path: string, names: readonly string[]) {
    this.#path = path;
    this.#byId = byId(names);
  }

  static async open(bitmapPath: string): Promise<BitmapNames> {
    const path = `${bitmapPath}.names`;
    return new BitmapNames(path, await readNames(path));
  }

  get names(): readonly string[] {
    return [...this.#byId.values()];
  }

  nameOf(targetId: string): string | null {
    return this.#byId.get(targetId) ?? null;
  }

  /** Durable before `make` makes what bears it; gone again when that fails. */
  async add(name: string, make: () => Promise<void>): Promise<void> {
    await this.addAll([name]);
    try {
      await make();
    } catch (thrown) {
      await this.remove(name);
      throw thrown;
    }
  }

  async addAll(more: readonly string[]): Promise<void> {
    const added = more.filter(isName);
    if (added.length === 0) return;
    await this.#save((names) => [...names.filter((each) => !added.includes(each)), ...added]);
  }

  async remove(name: string): Promise<void> {
    await this.#save((names) => names.filter((each) => targetIdOf(each) !== targetIdOf(name)));
  }

  async #save(change: (names: readonly string[]) => readonly string[]): Promise<void> {
    const saving = this.#saving.then(async () => {
      const names = change(this.names);
      await writeNames(this.#path, { version: 1, names });
      this.#byId = byId(names);
    });
    this.#saving = saving.catch(() => undefined);
    await saving;
  }
}

function byId(names: readonly string[]): ReadonlyMap<string, string> {
  return new Map(names.map((name) => [targetIdOf(name), name]));
}

async function readNames(path: string): Promise<readonly string[]> {
  try {
    const document = JSON.parse(await readFile(path, "utf8")) as Partial<NamesDocument> | null;
    if (document?.version !== 1 || !Array.isArray(document.names)) return [];
    return document.names.filter(isName);
  } catch {
    return [];
  }
}

function isName(value: unknown): value is string {
  return typeof value === "string" && value !== "" && Buffer.byteLength(value) <= 255;
}

async function writeNames(path: string, document: NamesDocument): Promise<void> {
  try {
    const unfinished = `${path}.unfinished`;
    await using file = await open(unfinished, "w", 0o600);
    await file.writeFile(`${JSON.stringify(document)}\n`);
    await file.sync();
    await rename(unfinished, path);
    await using directory = await open(dirname(path), "r");
    await directory.sync();
  } catch (thrown) {
    throw toTidemarkError(thrown);
  }
}
