/** What segments' digests are made of, where both ends know more than SHA-256. */
import { createHash, randomBytes } from "node:crypto";
import fc from "fast-check";
import t from "tap";
import { SEGMENT_DIGESTS } from "#lib/model/segment-digest.js";
import { newSegmentDigest } from "#lib/tracking/segment-digest.js";
import { naiveXxh3 } from "../support/naive-xxh3.js";
import { generatedPieces } from "./generated-pieces.mjs";
import {
  connectTo,
  generatedSource,
  HashingReplica,
  newHeader,
  newLanes,
  startServer,
  testPki,
} from "./hosts.js";
import { sha256Of } from "./sha256-of.js";

const pki = await testPki();
const lanes = newLanes(1, 1);
t.teardown(async () => {
  await lanes.close();
  await pki.remove();
});

const recipe = { seed: 5, pieceBytes: 65_536, pieceCount: 3, compressible: true };

function ofXxh3(bytes: Buffer): string {
  return createHash("sha256").update(naiveXxh3(bytes), "hex").digest("hex");
}

void t.test("xxh3-128: the SHA-256 of what the specification says, in any pieces", async (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 241, max: 5000 }),
      fc.array(fc.integer({ min: 0, max: 3000 }), { maxLength: 5 }),
      (length, cuts) => {
        const bytes = randomBytes(length);
        const digest = newSegmentDigest("xxh3-128");
        let from = 0;
        for (const cut of [...cuts, length]) {
          digest.update(bytes.subarray(from, from + cut));
          from += cut;
        }
        t.equal(digest.finish(), ofXxh3(bytes));
      },
    ),
    { numRuns: 50 },
  );
});

void t.test("both ends know it: receipts have it", async (t) => {
  const replica = new HashingReplica();
  await using server = await startServer(pki, replica, { segmentDigests: SEGMENT_DIGESTS });
  await using endpoint = connectTo(server, pki, lanes);
  const header = newHeader();
  await endpoint.openDelta(header);
  const receipt = await endpoint.putSegment(generatedSource(header.deltaId, 0, recipe));
  t.equal(receipt.sha256, ofXxh3(Buffer.concat([...generatedPieces(recipe)])));
  t.not(receipt.sha256, sha256Of(recipe));
});

void t.test("a sink that wrote other bytes is found out by it, too", async (t) => {
  const replica = new HashingReplica();
  await using server = await startServer(pki, replica, { segmentDigests: SEGMENT_DIGESTS });
  await using endpoint = connectTo(server, pki, lanes);
  const header = newHeader();
  await endpoint.openDelta(header);
  replica.place = { lie: true };
  await t.rejects(endpoint.putSegment(generatedSource(header.deltaId, 0, recipe)), {
    code: "CORRUPT",
  });
});

void t.test(
  "after a failure the replica is asked again: it may be of the version before",
  async (t) => {
    const replica = new HashingReplica();
    const first = await startServer(pki, replica, { segmentDigests: SEGMENT_DIGESTS });
    await using endpoint = connectTo(first, pki, lanes);
    const header = newHeader();
    await endpoint.openDelta(header);
    const source = generatedSource(header.deltaId, 0, recipe);
    await endpoint.putSegment(source);
    await first.close();

    // It knows no other, so it does not look whether one was asked for.
    replica.place = { digest: undefined };
    await using _second = await startServer(pki, replica, { port: first.port });
    await t.rejects(endpoint.putSegment(source), { code: "CORRUPT", retryable: true });
    await endpoint.openDelta(header);
    t.equal((await endpoint.putSegment(source)).sha256, sha256Of(recipe));
  },
);
