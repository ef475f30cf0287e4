import type {
  BackupBeginRequest,
  BackupBody,
  BitmapAddRequest,
  BitmapBody,
} from "../management/bitmap-schemas.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { type Backup, beginBackup } from "../tracking/backup.js";
import type { CaptureBudget } from "../tracking/tracked-vm.js";
import { targetIdOf } from "../tracking/target-id.js";
import type { NbdServer } from "../tracking/nbd-server.js";
import type { TrackedDisk } from "../tracking/tracked-disk.js";
import type { VmDefinition } from "./open-vm-disks.js";

const FIRST_DRAIN_LIMIT_MS = 50;
const LAST_DRAIN_LIMIT_MS = 800;

/** The bitmaps that consumers outside Tidemark have on a VM's disks, and their open backups. */
export class VmBitmaps {
  #definition: VmDefinition;
  #disks: readonly TrackedDisk[];
  readonly #server: NbdServer;
  readonly #budget: CaptureBudget;
  readonly #backups = new Map<string, Backup>();

  constructor(
    definition: VmDefinition,
    disks: readonly TrackedDisk[],
    server: NbdServer,
    budget: CaptureBudget,
  ) {
    this.#definition = definition;
    this.#disks = disks;
    this.#server = server;
    this.#budget = budget;
  }

  get hasOpenBackup(): boolean {
    return this.#backups.size > 0;
  }

  /** Backups that are open stay of the disks that they are of: only new ones may come meanwhile, at the end. */
  changeDisks(definition: VmDefinition, disks: readonly TrackedDisk[]): void {
    this.#definition = definition;
    this.#disks = disks;
  }

  list(): BitmapBody[] {
    const names = new Set(this.#disks.flatMap((disk) => disk.bitmaps().map(({ name }) => name)));
    return [...names].map((name) => this.#bodyOf(name));
  }

  /** On each disk that has none of the name. ALREADY_EXISTS when they all have. */
  async add({ name, start }: BitmapAddRequest): Promise<BitmapBody> {
    const lacking = this.#disks.filter((disk) => !this.#has(disk, name));
    if (lacking.length === 0) {
      throw new TidemarkError(
        "ALREADY_EXISTS",
        `Cannot add bitmap ${name} to ${this.#definition.name}: because it has one of that name.`,
        { hint: "Go on with it, or remove it first." },
      );
    }
    const added: TrackedDisk[] = [];
    try {
      for (const disk of lacking) {
        await disk.addBitmap(name, start);
        added.push(disk);
      }
    } catch (thrown) {
      for (const disk of added) await disk.removeBitmap(name);
      throw thrown;
    }
    return this.#bodyOf(name);
  }

  async remove(name: string): Promise<void> {
    const having = this.#disks.filter((disk) => this.#has(disk, name));
    if (having.length === 0) throw this.#unknown(name);
    if (this.#backups.has(targetIdOf(name))) {
      throw new TidemarkError(
        "IN_USE",
        `Cannot remove bitmap ${name}: because a backup of it is open.`,
        { hint: "Commit or abandon the backup first." },
      );
    }
    for (const disk of having) await disk.removeBitmap(name);
  }

  async begin(name: string, { scope }: BackupBeginRequest): Promise<BackupBody> {
    this.#requireEverywhere(name);
    const id = targetIdOf(name);
    const { memoryBytes, spillPath, spillBytes } = this.#budget;
    const backup = await patiently((drainLimitMs) =>
      beginBackup(this.#disks, name, {
        scope,
        drainLimitMs,
        captureMemoryBytes: memoryBytes,
        spillPath: spillPath === "" ? "" : `${spillPath}.${id}`,
        spillBytes,
      }),
    );
    try {
      for (const [index, disk] of this.#definition.disks.entries()) {
        backup.addExport(this.#server, exportNameOf(disk.name, name), index);
      }
    } catch (thrown) {
      await backup.abandon();
      throw thrown;
    }
    this.#backups.set(id, backup);
    return this.#backupBody(backup);
  }

  async commit(name: string): Promise<void> {
    await this.#end(name, (backup) => backup.commit());
  }

  async abandon(name: string): Promise<void> {
    await this.#end(name, (backup) => backup.abandon());
  }

  /** Abandons what is open. */
  async close(): Promise<void> {
    for (const backup of this.#backups.values()) await backup[Symbol.asyncDispose]();
    this.#backups.clear();
  }

  /** One that refuses to end, as a broken one refuses a commit, stays open. */
  async #end(name: string, end: (backup: Backup) => Promise<void>): Promise<void> {
    const backup = this.#openBackup(name);
    try {
      await end(backup);
    } finally {
      if (backup.hasEnded) this.#backups.delete(targetIdOf(name));
    }
  }

  #has(disk: TrackedDisk, name: string): boolean {
    return disk.targets().some(({ targetId }) => targetId === targetIdOf(name));
  }

  #bodyOf(name: string): BitmapBody {
    const backup = this.#backups.get(targetIdOf(name));
    const disks = this.#disks.flatMap((disk, index) => {
      const status = disk.bitmaps().find((bitmap) => bitmap.name === name);
      if (status === undefined) return [];
      const { changedBytes, suspectBytes } = status;
      return [{ name: this.#definition.disks[index]?.name ?? "", changedBytes, suspectBytes }];
    });
    return { name, disks, backup: backup === undefined ? null : this.#backupBody(backup) };
  }

  #backupBody(backup: Backup): BackupBody {
    return {
      bitmap: backup.bitmap,
      takenAtMs: backup.takenAtMs,
      pauseNs: backup.pauseNs,
      brokenReason: backup.brokenReason(),
      context: `qemu:dirty-bitmap:${backup.bitmap}`,
      disks: backup.disks.map(({ disk, sizeBytes, changedBytes }, index) => {
        const name = this.#definition.disks[index]?.name ?? "";
        const uri = this.#server.uriOf(exportNameOf(name, backup.bitmap));
        return { diskId: disk.diskId, name, sizeBytes, changedBytes, uri };
      }),
    };
  }

  #openBackup(name: string): Backup {
    const backup = this.#backups.get(targetIdOf(name));
    if (backup !== undefined) return backup;
    throw new TidemarkError("NOT_FOUND", `Cannot find an open backup of bitmap ${name}.`, {
      hint: "A restart of the host ends backups, and what changed counts again: begin another.",
    });
  }

  /** A cut that lacks a disk would not be the VM. */
  #requireEverywhere(name: string): void {
    const lacking = this.#definition.disks.filter((_definition, index) => {
      const disk = this.#disks[index];
      return disk !== undefined && !this.#has(disk, name);
    });
    if (lacking.length === 0) return;
    if (lacking.length === this.#disks.length) throw this.#unknown(name);
    const which = lacking.map((disk) => disk.name).join(", ");
    throw new TidemarkError(
      "CONFLICT",
      `Cannot begin the backup: because ${which} has no bitmap ${name}.`,
      { hint: "Add the bitmap: disks that have it keep theirs, of the others all counts." },
    );
  }

  #unknown(name: string): TidemarkError {
    return new TidemarkError(
      "NOT_FOUND",
      `Cannot find bitmap ${name} of ${this.#definition.name}.`,
      { hint: "`tidemark bitmap list` lists them; `tidemark bitmap add` adds one." },
    );
  }
}

/** No disk's name has an @. */
function exportNameOf(diskName: string, bitmap: string): string {
  return `${diskName}@${bitmap}`;
}

/** Slow storage gets its cut too: the time box grows. */
async function patiently(begin: (drainLimitMs: number) => Promise<Backup>): Promise<Backup> {
  for (let limitMs = FIRST_DRAIN_LIMIT_MS; ; limitMs *= 2) {
    try {
      return await begin(limitMs);
    } catch (thrown) {
      if (toTidemarkError(thrown).code !== "TIMED_OUT" || limitMs >= LAST_DRAIN_LIMIT_MS) {
        throw thrown;
      }
    }
  }
}
