/** Makes a medium of the present format in the directory named. Run once a format version. */
import { createMedium } from "#lib/media/create-medium.js";
import { MediumWriter } from "#lib/media/medium-writer.js";
import {
  FIXTURE_DELTAS,
  FIXTURE_GENERATION,
  FIXTURE_PASSPHRASE,
  FIXTURE_VM,
  fixtureDeltaId,
  fixtureScene,
  inlineSegments,
} from "./fixture-medium.js";

const [parent = ""] = process.argv.slice(2);
const protection = { kind: "passphrase", passphrase: FIXTURE_PASSPHRASE } as const;
const medium = await createMedium(parent, FIXTURE_VM.name, protection);
const options = { ...medium, segments: inlineSegments(), compressionLevel: 1 };
const writer = await MediumWriter.open(options);
await writer.enable(FIXTURE_VM, FIXTURE_GENERATION);
const stagingSessionId = await writer.openStaging();
const scene = fixtureScene();
for (const [index, blocks] of FIXTURE_DELTAS.entries()) {
  const isLast = index === FIXTURE_DELTAS.length - 1;
  const kind = isLast ? "point" : "staging";
  const header = scene.header({ deltaId: fixtureDeltaId(index), stagingSessionId, kind });
  const segmentCount = Object.keys(blocks).length;
  await scene.deliver(writer, { ...header, segmentCount }, blocks);
}
