import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { createMedium } from "../media/create-medium.js";
import { type ImportedMedium, importMedium } from "../media/import-medium.js";
import { MediumThreads } from "../media/medium-threads.js";
import { MediumWriter } from "../media/medium-writer.js";
import { TidemarkError } from "../model/errors.js";
import type { MediaOpener, MediaProtection, WritableMedium } from "../model/initial-media.js";
import type { FirstCopy, RelationshipRecord } from "../model/relationship.js";
import type { SeedDisk } from "../model/seed.js";
import type { ReplicaStore } from "../replica/replica-store.js";
import { seedVm } from "../replica/seed-vm.js";
import { createFiles } from "../security/secret-files.js";

export interface FirstCopiesOptions {
  /** Where the keys of media are that are being written. */
  readonly keyDirectory: string;
  readonly store: ReplicaStore;
  /** This host's own, PEM: media that are for its certificate open with it. */
  readonly privatePem: () => string;
}

/** Where the setting leaves it to the line: there is none. */
const MEDIUM_LEVEL = 3;

/** The first copies that do not travel over the network: media written and taken in, existing disks. */
export class FirstCopies {
  readonly #options: FirstCopiesOptions;
  readonly #closing = new AbortController();
  readonly #running = new Map<string, Promise<unknown>>();

  constructor(options: FirstCopiesOptions) {
    this.#options = options;
  }

  /** An empty medium below the directory, and its key kept here until it is written. */
  async createMedium(
    directory: string,
    vmName: string,
    protection: MediaProtection,
  ): Promise<FirstCopy> {
    const { keyDirectory } = this.#options;
    await mkdir(keyDirectory, { recursive: true, mode: 0o700 });
    const medium = await createMedium(directory, vmName, protection);
    const { mediaId, key } = medium;
    await createFiles([
      { path: this.#keyPath(mediaId), content: key.toString("hex"), mode: 0o600 },
    ]);
    return { by: "medium", mediaId, directory: medium.directory, stage: "writing" };
  }

  /** For the engine. */
  async openMedium({ firstCopy, settings }: RelationshipRecord): Promise<WritableMedium> {
    if (firstCopy?.by !== "medium") {
      throw new TidemarkError("INTERNAL", "Cannot open a medium: because the VM has none.");
    }
    const { mediaId, directory } = firstCopy;
    return MediumWriter.open({
      directory,
      mediaId,
      key: await this.#keyOf(mediaId),
      segments: this.#newThreads(),
      compressionLevel:
        typeof settings.compression === "number" ? settings.compression : MEDIUM_LEVEL,
    });
  }

  /** Keys of media that nobody writes any more. */
  async forgetKeysBut(mediaIds: readonly string[]): Promise<void> {
    const { keyDirectory } = this.#options;
    for (const name of await readdir(keyDirectory).catch(() => [])) {
      if (!mediaIds.includes(name.replace(/\.key$/, ""))) await rm(join(keyDirectory, name));
    }
  }

  importMedium(directory: string, opener: MediaOpener): Promise<ImportedMedium> {
    return this.#alone(directory, async (threads, signal) => {
      const { store, privatePem } = this.#options;
      const parts = { target: store, segments: threads, signal };
      return importMedium(parts, directory, { privatePem: privatePem(), ...opener });
    });
  }

  seed(vmId: string, disks: readonly SeedDisk[]): Promise<void> {
    return this.#alone(vmId, (threads, signal) =>
      this.#options.store.withVm(vmId, (tools, replica) =>
        seedVm(tools, replica, disks, (slot, part, stop) => threads.fill(slot, part, stop), signal),
      ),
    );
  }

  /** What is under way is given up; an import goes on where it was when it is asked for again. */
  async close(): Promise<void> {
    this.#closing.abort(new TidemarkError("CLOSED", "The host is being stopped."));
    await Promise.allSettled(this.#running.values());
  }

  async #alone<T>(
    key: string,
    work: (threads: MediumThreads, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    if (this.#running.has(key)) {
      throw new TidemarkError(
        "IN_USE",
        `Cannot begin with ${key}: because it is under way already.`,
      );
    }
    const run = async () => {
      await using threads = this.#newThreads();
      return await work(threads, this.#closing.signal);
    };
    const running = run();
    this.#running.set(key, running);
    try {
      return await running;
    } finally {
      this.#running.delete(key);
    }
  }

  #newThreads(): MediumThreads {
    return new MediumThreads(new URL("./medium-worker.js", import.meta.url));
  }

  #keyPath(mediaId: string): string {
    return join(this.#options.keyDirectory, `${mediaId}.key`);
  }

  async #keyOf(mediaId: string): Promise<Buffer> {
    const path = this.#keyPath(mediaId);
    try {
      return Buffer.from(await readFile(path, "utf8"), "hex");
    } catch (cause) {
      throw new TidemarkError(
        "NOT_FOUND",
        `Cannot go on with the medium: because its key ${path} is gone.`,
        {
          hint: "Export the VM anew.",
          cause,
        },
      );
    }
  }
}
