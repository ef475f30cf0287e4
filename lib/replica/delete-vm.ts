/**
 * A VM's deletion: from the moment its document is renamed it is not there any more,
 * whatever else is left of it. What a crash leaves is removed at the next start, the
 * renamed document last.
 */
import { join } from "node:path";
import { TidemarkError } from "../model/errors.js";
import type { StoreFiles } from "./store-files.js";
import type { VmPaths } from "./store-paths.js";
import type { VmReplica } from "./vm-replica.js";

const MARKER = "vm.deleted";

/** IN_USE: it would take a recovery point away from under somebody, or the VM's own disks. */
export function requireUnused({ document, pins, chain }: VmReplica): void {
  const { name } = document.vm;
  if (document.isPromotedHere) {
    const hint = "Cancel the failover first; `tidemark vm status` shows it.";
    throw inUse(name, "the VM was failed over to it", hint);
  }
  const pinned = chain.shown().find(({ isPinned }) => isPinned);
  if (!pins.isEmpty) {
    const hint =
      "Close its exports, and end its extended replication; `tidemark vm status` lists them.";
    throw inUse(name, "one of its recovery points is open", hint);
  }
  if (pinned !== undefined) {
    const hint = "Unpin it first: `tidemark point unpin VM POINT`.";
    throw inUse(name, `recovery point ${pinned.point.sequence} is pinned`, hint);
  }
}

function inUse(name: string, why: string, hint: string): TidemarkError {
  const message = `Cannot delete the replica of ${name}: because ${why}.`;
  return new TidemarkError("IN_USE", message, { hint, retryable: false });
}

/** Durable when it resolves; the space comes back as far as the file system goes along. */
export async function deleteVm(files: StoreFiles, paths: VmPaths): Promise<void> {
  await files.rename(paths.vmFile, join(paths.directory, MARKER));
  await files.syncDirectory(paths.directory);
  await sweepDeletedVm(files, paths).catch(() => undefined);
}

/** Whether that is all there was; then it is gone. */
export async function sweepDeletedVm(files: StoreFiles, paths: VmPaths): Promise<boolean> {
  const names = await files.list(paths.directory);
  const isDeleted = names.includes(MARKER) && !names.includes("vm.json");
  if (!isDeleted && names.length > 0) return false;
  for (const name of names) {
    if (name !== MARKER) await files.removeTree(join(paths.directory, name));
  }
  if (isDeleted) await files.syncDirectory(paths.directory);
  await files.removeTree(paths.directory);
  return true;
}
