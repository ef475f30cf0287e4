import type { TrackedDisk } from "../tracking/tracked-disk.js";

const POLL_MS = 10_000;

/** Tells once of each disk whose marks cannot be relied upon; until disposed, which comes before their close. */
export function watchDurability(
  disks: readonly TrackedDisk[],
  onNotice: (message: string) => void,
): Disposable {
  const told = new Set<TrackedDisk>();
  const look = () => {
    for (const disk of disks) {
      const { alarm } = disk.durability();
      if (alarm === null || told.has(disk)) continue;
      told.add(disk);
      onNotice(
        `Cannot rely on the bitmap ${disk.bitmapPath}: because ${alarm}. Guests are served all the same; after an unclean end all of disk ${disk.path} is compared. Mend the bitmap's storage, then open the disk again.`,
      );
    }
  };
  look();
  const timer = setInterval(look, POLL_MS).unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
