import type { ReplicatedVm } from "../model/disk.js";
import { type Lineage, presentEntry } from "../model/lineage.js";
import { sweepDeletedVm } from "./delete-vm.js";
import { VM_DOCUMENT, type VmDocument } from "./documents.js";
import { writeDocument } from "./durable-document.js";
import { PointChain } from "./point-chain.js";
import type { ReplicaTools } from "./replica-tools.js";
import type { VmPaths } from "./store-paths.js";
import { VmReplica } from "./vm-replica.js";

export interface NewVmOptions {
  /** Default false. */
  readonly isGivenAway?: boolean;
}

/** A VM without recovery points. It is there from the moment its document is. */
export async function createVm(
  tools: ReplicaTools,
  paths: VmPaths,
  vm: ReplicatedVm,
  lineage: Lineage,
  { isGivenAway = false }: NewVmOptions = {},
): Promise<VmReplica> {
  const { files } = tools;
  await sweepDeletedVm(files, paths);
  for (const directory of [
    paths.stagingDirectory,
    paths.layersDirectory,
    paths.pointsDirectory,
    ...vm.disks.map((disk) => paths.diskDirectory(disk.diskId)),
  ]) {
    await files.makeDirectory(directory);
  }
  const { generation } = presentEntry(lineage);
  const document: VmDocument = {
    vm,
    generation,
    lineage,
    isPromotedHere: false,
    ...(isGivenAway ? { isGivenAway } : {}),
  };
  await writeDocument(files, VM_DOCUMENT, paths.vmFile, document);
  const base = { vmId: vm.vmId, pointId: null, sequence: 0, mergingSequence: null };
  const chain = new PointChain(base);
  return new VmReplica(tools, paths, { document, chain, session: null, open: null, nextOrder: 1 });
}
