/** A medium that version 1 of the format left behind is taken in. */
import { join } from "node:path";
import t from "tap";
import { importMedium } from "#lib/media/import-medium.js";
import { binding } from "#lib/tracking/binding.js";
import { openNativeStore, temporaryDirectory } from "../replica/support/native-scene.js";
import { ExpectedDisks, readBlocks } from "../replica/support/scene.js";
import {
  FIXTURE,
  FIXTURE_DELTAS,
  FIXTURE_GENERATION,
  FIXTURE_PASSPHRASE,
  FIXTURE_VM,
  fixtureDeltaId,
  inlineSegments,
} from "./fixture-medium.js";

void t.test("a medium of format version 1 is imported with all its content", async (t) => {
  const store = await openNativeStore(t, join(await temporaryDirectory(t), "store"));
  const { signal } = new AbortController();
  const parts = { target: store, segments: inlineSegments(), signal };
  const { vmId, name, point } = await importMedium(parts, FIXTURE, {
    passphrase: FIXTURE_PASSPHRASE,
  });
  t.same([vmId, name], [FIXTURE_VM.vmId, FIXTURE_VM.name]);
  t.equal(point.pointId, fixtureDeltaId(2));
  t.same((await store.status(vmId)).generation, FIXTURE_GENERATION);
  let expected = new ExpectedDisks();
  for (const blocks of FIXTURE_DELTAS) expected = expected.with(blocks);
  t.same(await readBlocks(store, binding, vmId, point.pointId), expected.values);
});
