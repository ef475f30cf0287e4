import { failpoint } from "../model/failpoint.js";
import { POINT_MANIFEST, type PointManifest } from "./documents.js";
import { writeDocument } from "./durable-document.js";
import type { PointChain } from "./point-chain.js";
import type { ReplicaTools } from "./replica-tools.js";
import type { VmPaths } from "./store-paths.js";

/** Where a commit does what it does. */
export interface CommitContext {
  readonly tools: ReplicaTools;
  readonly paths: VmPaths;
  readonly chain: PointChain;
}

/** Durable when it resolves. */
export async function writeManifest(
  { tools, paths }: CommitContext,
  manifest: PointManifest,
): Promise<void> {
  const path = paths.point(manifest.point.sequence);
  await writeDocument(tools.files, POINT_MANIFEST, path, manifest, failpoint);
}
