import type { DiskMarks } from "../model/disk-marks.js";
import { failpoint } from "../model/failpoint.js";
import { presentEntry } from "../model/lineage.js";
import type { ReturnedDisks, ReturnRequest } from "../model/replica-endpoint.js";
import { adoptDisks, FIRST_SEQUENCE } from "./adopt-disks.js";
import { createVm } from "./create-vm.js";
import { RETURNED_DOCUMENT } from "./documents.js";
import { readDocument, writeDocument } from "./durable-document.js";
import type { FormerPrimary, ReleasedDisks } from "./former-primary.js";
import { loadVm } from "./load-vm.js";
import type { ReplicaTools } from "./replica-tools.js";
import { VmPaths } from "./store-paths.js";
import type { VmReplica } from "./vm-replica.js";
import { isReplicated } from "./vm-summary.js";

export interface TakeReturnedParts {
  readonly tools: ReplicaTools;
  readonly root: string;
  readonly vms: Map<string, VmReplica>;
  readonly former: FormerPrimary;
}

/**
 * The store's end of a reversal: the disks are this store's, and what is known of them is
 * kept beside them, before the host forgets that it was their primary. What an interrupted
 * one has left is gone on with.
 */
export async function takeReturned(
  parts: TakeReturnedParts,
  request: ReturnRequest,
): Promise<ReturnedDisks> {
  const { tools, root, vms, former } = parts;
  const { lineage, formerHeadId } = request;
  const { vmId } = request.vm;
  const known = replicatedIn(vms, vmId);
  if (known !== undefined) known.requireGeneration(presentEntry(lineage).generation);
  let isUnchanged = false;
  if (known === undefined || known.chain.head() === null) {
    const released = await former.release(vmId, lineage, formerHeadId);
    failpoint("returned.released");
    const paths = new VmPaths(root, vmId);
    const replica = known ?? (await createVm(tools, paths, request.vm, lineage));
    await noteMarks(tools, replica, request, released);
    await adoptDisks(tools, replica, released);
    vms.set(vmId, await loadVm(tools, paths, vmId));
    isUnchanged = released.isUnchanged && known === undefined;
  }
  failpoint("returned.adopted");
  await former.forget(vmId);
  const taken = vms.get(vmId);
  if (taken === undefined) throw new Error("a VM that was taken is not there");
  const marks = await knownMarks(tools, taken, request);
  return { status: await taken.status(), isUnchanged, marks };
}

/** Before there is a point that they could be taken for. */
async function noteMarks(
  { files }: ReplicaTools,
  { paths, document }: VmReplica,
  { formerHeadId }: ReturnRequest,
  { marks }: ReleasedDisks,
): Promise<void> {
  const { vmId } = document.vm;
  if (marks === null || formerHeadId === undefined) await files.remove(paths.returnedFile);
  else {
    const noted = { vmId, formerHeadId, marks };
    await writeDocument(files, RETURNED_DOCUMENT, paths.returnedFile, noted);
  }
}

/** Of the disks as they were taken; nothing once there is a point that came over them, or that cannot be read. */
async function knownMarks(
  { files }: ReplicaTools,
  { paths, chain, document }: VmReplica,
  { formerHeadId }: ReturnRequest,
): Promise<readonly DiskMarks[] | undefined> {
  if (chain.head()?.point.sequence !== FIRST_SEQUENCE) return undefined;
  if ((await files.size(paths.returnedFile)) === null) return undefined;
  const read = readDocument(files, RETURNED_DOCUMENT, paths.returnedFile);
  const noted = await read.catch(() => null);
  const isOfIt = noted?.vmId === document.vm.vmId && noted.formerHeadId === formerHeadId;
  return isOfIt ? noted.marks : undefined;
}

/** One that went on from here for good is a VM like any other when it comes back. */
function replicatedIn(vms: ReadonlyMap<string, VmReplica>, vmId: string): VmReplica | undefined {
  const known = vms.get(vmId);
  return known !== undefined && isReplicated(known) ? known : undefined;
}
