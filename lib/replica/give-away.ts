import { dirname, join, relative } from "node:path";
import type { Lineage } from "../model/lineage.js";
import { TidemarkError } from "../model/errors.js";
import { failpoint } from "../model/failpoint.js";
import type { OpenedPoint, PointDisk } from "./opened-point.js";
import type { ReplicaStore } from "./replica-store.js";
import type { VmReplica } from "./vm-replica.js";

/** What a VM's disks are made of that is not the store's any more. */
export interface GivenAwayVm {
  readonly name: string;
  readonly lineage: Lineage;
  readonly disks: readonly PointDisk[];
  /** Where the base of each disk is, or is to be; in the order of the disks. */
  readonly basePaths: readonly string[];
}

/** As it will be; nothing is changed yet. */
function givenAwayTo(
  directory: string,
  { document, paths }: VmReplica,
  { disks }: OpenedPoint,
): GivenAwayVm {
  const moved = (path: string) => join(directory, relative(paths.directory, path));
  return {
    name: document.vm.name,
    lineage: document.lineage,
    disks: disks.map((disk) => ({
      ...disk,
      basePath: disk.basePath === "" ? "" : moved(disk.basePath),
      layerPaths: disk.layerPaths.map(moved),
    })),
    // A base that is not below the disk at this point is another time's, and goes.
    basePaths: disks.map(({ geometry, basePath }) =>
      basePath === ""
        ? join(dirname(moved(paths.diskBase(geometry.diskId))), "folded.raw")
        : moved(basePath),
    ),
  };
}

/** IN_USE while somebody reads one of its points: they are about to be given up. */
function requireNoReaders({ document, pins }: VmReplica): void {
  if (!pins.hasPassing) return;
  throw new TidemarkError(
    "IN_USE",
    `Cannot complete the failover of ${document.vm.name}: because one of its recovery points is open.`,
    {
      retryable: false,
      hint: "Close what has it open first; `tidemark vm status` lists that.",
    },
  );
}

/**
 * A VM that runs on this host leaves the store with all its points, to be folded into plain
 * disks: `prepare` notes durably what they will be made of, before anything moves. What is
 * open of it stays open; what the store keeps is noteGivenAway()'s. Durable when it resolves.
 * IN_USE.
 */
export async function giveAway(
  store: ReplicaStore,
  vmId: string,
  point: OpenedPoint,
  prepare: (vm: GivenAwayVm) => Promise<void>,
): Promise<void> {
  await store.withVm(vmId, ({ files }, replica) =>
    replica.compacting.run(() =>
      replica.lock.run(async () => {
        requireNoReaders(replica);
        const from = replica.paths.directory;
        const root = dirname(dirname(from));
        const directory = join(root, "folding", replica.document.generation.id);
        await prepare(givenAwayTo(directory, replica, point));
        failpoint("given-away.noted");
        await files.makeDirectory(dirname(directory));
        await files.rename(from, directory);
        failpoint("given-away.moved");
        await files.syncDirectory(dirname(directory));
        await files.syncDirectory(dirname(from));
        await store.noteGivenAway(replica.document.vm, replica.document.lineage);
      }),
    ),
  );
}
