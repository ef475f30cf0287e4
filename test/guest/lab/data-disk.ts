import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A blank disk for one guest, sparse on this host; its first is /dev/vdb. */
export class DataDisk implements AsyncDisposable {
  readonly qemu: readonly string[];
  readonly #directory: string;

  private constructor(directory: string, path: string) {
    this.#directory = directory;
    this.qemu = [
      "-drive",
      `if=none,id=data,format=raw,cache=unsafe,file=${path}`,
      "-device",
      "virtio-blk-pci,drive=data",
    ];
  }

  static async create(sizeMib: number): Promise<DataDisk> {
    const directory = await mkdtemp(join(tmpdir(), "tidemark-data-disk-"));
    const path = join(directory, "disk");
    await using file = await open(path, "w");
    await file.truncate(sizeMib * 2 ** 20);
    return new DataDisk(directory, path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** Of a job: makes a file system on the data disk and mounts it at /data. */
export const MOUNT_DATA_DISK = `
mkdir -p /data
mkfs.ext4 -q -O ^has_journal -E lazy_itable_init=1 /dev/vdb && mount /dev/vdb /data || exit 1
`;
