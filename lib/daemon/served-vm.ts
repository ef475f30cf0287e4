import type { DiskGeometry } from "../model/disk.js";
import { type ErrorCode, toTidemarkError } from "../model/errors.js";
import { closeServer } from "../tracking/close-server.js";
import type { NbdServer } from "../tracking/nbd-server.js";
import type { TrackedDisk } from "../tracking/tracked-disk.js";
import type { TrackedVm } from "../tracking/tracked-vm.js";
import type { VmDefinition } from "./open-vm-disks.js";
import type { VmBitmaps } from "./vm-bitmaps.js";

/** A VM of this host as primary, its disks open and served. */
export interface ServedVm {
  readonly definition: VmDefinition;
  /** In the order of the definition. */
  readonly disks: readonly TrackedDisk[];
  readonly server: NbdServer;
  /** Of the disks that are replicated. */
  readonly tracker: TrackedVm;
  readonly bitmaps: VmBitmaps;
  readonly watch: Disposable;
  readonly mapWatch: AsyncDisposable;
}

/** The disks of the VM that are not replicated. */
export function excludedDisksOf({ definition, disks }: ServedVm): readonly DiskGeometry[] {
  return definition.disks.flatMap(({ name, isExcluded }, index) => {
    const disk = disks[index];
    if (isExcluded !== true || disk === undefined) return [];
    const { diskId, sizeBytes, granularityBytes } = disk;
    return [{ diskId, name, sizeBytes, granularityBytes }];
  });
}

type ExportedVm = Pick<ServedVm, "definition" | "disks" | "server">;

/** Those that are not there. */
export function addExports({ definition, disks, server }: ExportedVm): void {
  for (const [index, { name }] of definition.disks.entries()) {
    const disk = disks[index];
    if (disk === undefined) continue;
    const description = `${definition.name}/${name}`;
    passOver("ALREADY_EXISTS", () => server.addExport(name, disk.native, { description }));
  }
}

/** No request of a guest is under way when it resolves. */
export async function removeExports({ definition, server }: ExportedVm): Promise<void> {
  for (const { name } of definition.disks) {
    await server.removeExport(name).catch((thrown: unknown) => {
      if (toTidemarkError(thrown).code !== "NOT_FOUND") throw thrown;
    });
  }
}

function passOver(code: ErrorCode, work: () => void): void {
  try {
    work();
  } catch (thrown) {
    if (toTidemarkError(thrown).code !== code) throw thrown;
  }
}

/** Ends its exports, and marks the bitmaps clean. */
export async function closeServed(served: ServedVm): Promise<void> {
  const { disks, server, bitmaps, watch, mapWatch } = served;
  watch[Symbol.dispose]();
  const natives = disks.map((disk) => disk.native);
  const steps = [
    () => Promise.resolve(mapWatch[Symbol.asyncDispose]()),
    () => bitmaps.close(),
    () => closeServer(server, natives),
    ...disks.map((disk) => () => disk.close()),
  ];
  await tryEach(steps, (step) => step());
}

/** The first failure is thrown when all were tried. */
export async function tryEach<Item>(
  items: readonly Item[],
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const failures: unknown[] = [];
  for (const item of items) {
    await work(item).catch((thrown: unknown) => failures.push(thrown));
  }
  if (failures.length > 0) throw failures[0];
}
