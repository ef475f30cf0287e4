import { POINT_MANIFEST, type PointManifest } from "./documents.js";
import { writeDocument } from "./durable-document.js";
import type { StoreFiles } from "./store-files.js";
import type { VmReplica } from "./vm-replica.js";

/**
 * Replaces a manifest that is there, and those that it stands for. When that fails, either
 * content may be what a crash leaves: noted, until it was written again.
 */
export async function rewriteManifest(
  files: StoreFiles,
  replica: VmReplica,
  manifest: PointManifest,
): Promise<void> {
  const { sequence } = manifest.point;
  const { unsureSequences, paths, chain } = replica;
  await writeDocument(files, POINT_MANIFEST, paths.point(sequence), manifest, (step) => {
    if (step === "rename") unsureSequences.add(sequence);
  });
  unsureSequences.delete(sequence);
  chain.replace(manifest);
}

/**
 * Makes sure of what is on the disk: before something is removed or promised that another
 * content would not fit.
 */
export async function settleManifests(files: StoreFiles, replica: VmReplica): Promise<void> {
  for (const sequence of replica.unsureSequences) {
    const manifest = replica.chain.at(sequence);
    if (manifest !== null) await rewriteManifest(files, replica, manifest);
    replica.unsureSequences.delete(sequence);
  }
}
