import { access, chmod, mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ScriptFreezer } from "#lib/hypervisor/script-freezer.js";
import type { FreezeWay } from "#lib/model/application-freezer.js";
import type { FreezerScene } from "../contracts/application-freezer.js";
import { until } from "../support/until.js";

/** The applications are a file that is there while they are frozen, and two scripts. */
export class ScriptScene implements FreezerScene {
  readonly way: FreezeWay;
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
    this.way = {
      vmId: "11111111-1111-4111-8111-111111111111",
      vmName: "web",
      freezeScript: join(directory, "freeze"),
      thawScript: join(directory, "thaw"),
    };
  }

  static async make(directory: string): Promise<ScriptScene> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const scene = new ScriptScene(directory);
    await scene.heal();
    return scene;
  }

  open(): ScriptFreezer {
    return new ScriptFreezer(this.way);
  }

  /** A script that does this instead, and freezes or thaws if it gets there. */
  async write(action: "freeze" | "thaw", first: string): Promise<void> {
    const file = join(this.#directory, "frozen");
    const last = action === "freeze" ? `touch ${file}` : `rm -f ${file}`;
    const path = join(this.#directory, action);
    await writeFile(`${path}.new`, `#!/bin/sh\ncd ${this.#directory}\n${first}\n${last}\n`);
    await chmod(`${path}.new`, 0o755);
    // The one before may be running.
    await rename(`${path}.new`, path);
  }

  has(file: string): Promise<boolean> {
    return access(join(this.#directory, file)).then(
      () => true,
      () => false,
    );
  }

  isFrozen(): Promise<boolean> {
    return this.has("frozen");
  }

  hangFreezing(): Promise<void> {
    return this.write("freeze", "touch under-way; sleep 60");
  }

  async isFreezing(): Promise<void> {
    await until("the freeze is under way", 10_000, () => this.has("under-way"));
  }

  failFreezing(): Promise<void> {
    return this.write("freeze", "touch frozen; echo 'no such database' >&2; exit 3");
  }

  hangThawing(): Promise<void> {
    return this.write("thaw", "sleep 60");
  }

  async heal(): Promise<void> {
    await this.write("freeze", ":");
    await this.write("thaw", ":");
  }
}
