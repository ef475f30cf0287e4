import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Test } from "tap";
import { ReplicaStore } from "#lib/replica/replica-store.js";
import { openSegmentSink } from "#lib/replica/segment-sink.js";
import { binding } from "#lib/tracking/binding.js";

const MEMORY = "/dev/shm";

/**
 * In memory, where there is that: for tests that commit by the hundred and ask what is
 * there, not what a crash leaves. Syncs are most of their time on a disk.
 */
export function memoryDirectory(t: Test): Promise<string> {
  return temporaryDirectory(t, existsSync(MEMORY) ? MEMORY : tmpdir());
}

export async function temporaryDirectory(t: Test, parent = tmpdir()): Promise<string> {
  const directory = await mkdtemp(join(parent, "tidemark-replica-"));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** Re-reads every block of every layer that the point is made of. CORRUPT. */
export async function verifyLayers(store: ReplicaStore, vmId: string, pointId: string) {
  const point = await store.openPoint(vmId, pointId);
  for (const { geometry, layerPaths } of point.disks) {
    for (const path of layerPaths) await binding.verifyLayer(path, geometry.diskId, true);
  }
  point.release();
}

/** As the daemon opens it; closed at the test's end. */
export async function openNativeStore(t: Test, root: string): Promise<ReplicaStore> {
  const store = await ReplicaStore.open({ root, native: binding, openSink: openSegmentSink });
  t.teardown(() => store.close());
  return store;
}
