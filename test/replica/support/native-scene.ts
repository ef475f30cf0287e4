import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Test } from "tap";
import { ReplicaStore } from "#lib/replica/replica-store.js";
import { openSegmentSink } from "#lib/replica/segment-sink.js";
import { binding } from "#lib/tracking/binding.js";

export async function temporaryDirectory(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tidemark-replica-"));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** As the daemon opens it; closed at the test's end. */
export async function openNativeStore(t: Test, root: string): Promise<ReplicaStore> {
  const store = await ReplicaStore.open({ root, native: binding, openSink: openSegmentSink });
  t.teardown(() => store.close());
  return store;
}
