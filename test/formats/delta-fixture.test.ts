/** The committed delta of format version 1 is read by every later build. */
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import t from "tap";
import { DeltaDecoder } from "#lib/tracking/delta-decoder.js";
import { decodeDeltaHeader, encodeDeltaHeader } from "#lib/tracking/delta-format.js";
import { fixtureDelta } from "./fixture-delta.js";

const PATH = fileURLToPath(
  new URL("../fixtures/formats/delta-v1/two-disks.delta", import.meta.url),
);

async function recordsOf(source: AsyncIterable<Uint8Array>) {
  const records: { diskIndex: number; offsetBytes: number; content: Buffer | number }[] = [];
  for await (const record of new DeltaDecoder(source)) {
    const content = record.type === "data" ? Buffer.from(record.data) : record.lengthBytes;
    records.push({ diskIndex: record.diskIndex, offsetBytes: record.offsetBytes, content });
  }
  return records;
}

void t.test("the fixture holds what it was made of", async (t) => {
  const { records } = fixtureDelta();
  t.same(await recordsOf(createReadStream(PATH, { highWaterMark: 100 })), records);
});

void t.test("the fixture is what the format page says, byte for byte", async (t) => {
  t.ok((await readFile(PATH)).equals(fixtureDelta().bytes));
});

void t.test("this build writes the header that the fixture has", async (t) => {
  const { headerBytes, bytes } = fixtureDelta();
  const header = bytes.subarray(0, headerBytes);
  t.ok(encodeDeltaHeader(decodeDeltaHeader(header)).equals(header));
});

void t.test("T25: the fixture cut short anywhere is refused, at a segment's end too", async (t) => {
  const bytes = await readFile(PATH);
  for (let length = 0; length < bytes.length; length += 97) {
    await t.rejects(recordsOf(Readable.from([bytes.subarray(0, length)])), { code: "TRUNCATED" });
  }
  const { segmentEnds } = fixtureDelta();
  for (const end of segmentEnds.slice(0, -1)) {
    await t.rejects(recordsOf(Readable.from([bytes.subarray(0, end)])), { code: "TRUNCATED" });
  }
});

void t.test("an unknown version is refused with both versions named", async (t) => {
  const bytes = Buffer.from(await readFile(PATH));
  bytes.writeUInt16LE(2, 4);
  await t.rejects(recordsOf(Readable.from([bytes])), {
    code: "VERSION_UNKNOWN",
    message: /is 2, .* knows 1/,
  });
});
