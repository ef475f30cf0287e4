/** The medium of test/fixtures/formats/initial-media-v1: what is on it, and how it was made. */
import { fileURLToPath } from "node:url";
import { InlineMediumSegments } from "#lib/media/medium-segments.js";
import { openSegmentSink } from "#lib/replica/segment-sink.js";
import { SegmentDecoder } from "#lib/tracking/segment-decoder.js";
import { type Blocks, Scene } from "../replica/support/scene.js";

export const FIXTURE = fileURLToPath(
  new URL("../fixtures/formats/initial-media-v1", import.meta.url),
);
export const FIXTURE_PASSPHRASE = "a passphrase for all to know";

const id = (last: number) => `00000000-0000-4000-8000-00000000000${last}`;
const disk = (last: number, name: string) => ({
  diskId: id(last),
  name,
  sizeBytes: 8 * 4096,
  granularityBytes: 4096,
});

export const FIXTURE_VM = {
  vmId: id(1),
  name: "guest",
  disks: [disk(2, "vda"), disk(3, "vdb")],
};
export const FIXTURE_GENERATION = { number: 1, id: id(4) };
/** In the order of their deltas; the last one is the closing one's. */
export const FIXTURE_DELTAS: readonly Blocks[] = [
  { 0: { 0: 10, 3: 13, 7: 17 }, 1: { 5: 25 } },
  { 0: { 3: 0, 4: 34 } },
  { 0: { 0: 40 }, 1: { 5: 0, 6: 46 } },
];

export const fixtureScene = () => new Scene(FIXTURE_VM, FIXTURE_GENERATION);
export const fixtureDeltaId = (index: number) => id(5 + index);

export function inlineSegments(): InlineMediumSegments {
  return new InlineMediumSegments({
    newReader: () => new SegmentDecoder(),
    openSink: openSegmentSink,
  });
}
