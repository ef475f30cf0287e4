/**
 * What is attached, for whoever comes after the process that attached it: one
 * directory for each disk, gone with the devices themselves when the machine
 * restarts.
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

export const ATTACHMENTS_DIRECTORY = "/run/tidemark/attach";

/** The kernel's own NBD client, or a loop device over a FUSE file. */
export type AttachmentKind = "nbd" | "loop";

export interface AttachmentRecord {
  readonly version: 1;
  readonly kind: AttachmentKind;
  readonly devicePath: string;
  readonly diskPath: string;
  readonly diskId: string;
  /** Who serves it, and the FUSE process; 0 for none. */
  readonly owner: ProcessIdentity;
  readonly fuse: ProcessIdentity | null;
}

/** A process id alone may be another process's by now. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks from the machine's start to the process's. */
  readonly startTicks: number;
}

/** Where everything of one attached disk is. */
export class AttachmentPlace {
  readonly directory: string;

  constructor(root: string, diskId: string) {
    this.directory = join(root, diskId);
  }

  get socket(): string {
    return join(this.directory, "nbd.sock");
  }

  /** The FUSE mount: one file. */
  get mount(): string {
    return join(this.directory, "disk");
  }

  get fuseLog(): string {
    return join(this.directory, "fuse.log");
  }

  async create(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
  }

  async read(): Promise<AttachmentRecord | null> {
    return readRecord(this.directory);
  }

  async write(record: AttachmentRecord): Promise<void> {
    const unfinished = join(this.directory, "record.unfinished");
    await writeFile(unfinished, `${JSON.stringify(record)}\n`, { mode: 0o600 });
    await rename(unfinished, join(this.directory, "record.json"));
  }

  async remove(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }
}

export async function listAttachments(root = ATTACHMENTS_DIRECTORY): Promise<AttachmentRecord[]> {
  const names = await readdir(root).catch(() => []);
  const records = await Promise.all(names.map((name) => readRecord(join(root, name))));
  return records.filter((record) => record !== null);
}

/** Null: there is none, or none that this version knows. */
async function readRecord(directory: string): Promise<AttachmentRecord | null> {
  try {
    const record: AttachmentRecord = JSON.parse(
      await readFile(join(directory, "record.json"), "utf8"),
    );
    return record.version === 1 ? record : null;
  } catch {
    return null;
  }
}

/** Null when there is no such process. */
export async function identify(pid: number): Promise<ProcessIdentity | null> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  // The second field is the program's name in parentheses, and may hold anything.
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields === undefined || fields[0] === "Z") return null;
  return { pid, startTicks: Number(fields[19]) };
}

export async function isAlive(identity: ProcessIdentity | null): Promise<boolean> {
  if (identity === null) return false;
  return (await identify(identity.pid))?.startTicks === identity.startTicks;
}
