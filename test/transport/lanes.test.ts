import { setTimeout as delay } from "node:timers/promises";
import { TidemarkError } from "#lib/model/errors.js";
import t from "tap";
import {
  connectTo,
  generatedSource,
  HashingReplica,
  newHeader,
  newLanes,
  type Recipe,
  startServer,
  testPki,
  until,
} from "./hosts.js";
import { sha256Of } from "./sha256-of.js";

const MIB = 1024 * 1024;
const pki = await testPki();
const lanes = newLanes();
let replica = new HashingReplica();
const server = await startServer(pki, replica, { replicaFor: () => replica });
const client = connectTo(server, pki, lanes);

t.beforeEach(() => {
  replica = new HashingReplica();
});
t.teardown(async () => {
  await client.close();
  await lanes.close();
  await server.close();
  await pki.remove();
});

/** Waits until another ingest thread has taken the lost one's place. */
async function answering({ vmId }: { readonly vmId: string }): Promise<void> {
  for (;;) {
    const outcome = await client.status(vmId).catch((error: TidemarkError) => error);
    if (!(outcome instanceof TidemarkError)) return;
    if (outcome.code !== "UNREACHABLE") throw outcome;
    await delay(20);
  }
}

const small: Recipe = { seed: 7, pieceBytes: 64 * 1024, pieceCount: 4 };

void t.test("a receipt has the digest of the source's bytes and what travelled", async (t) => {
  const header = newHeader();
  await client.openDelta(header);
  const recipe = { ...small, compressible: true };
  const receipt = await client.putSegment(generatedSource(header.deltaId, 3, recipe));
  t.equal(receipt.sha256, sha256Of(recipe));
  t.equal(receipt.segmentIndex, 3);
  const halfBytes = (recipe.pieceBytes * recipe.pieceCount) / 2;
  t.ok(receipt.wireBytes > halfBytes && receipt.wireBytes < 1.1 * halfBytes);
  t.same(replica.completed.get(3), receipt);
  t.equal(replica.openSlots.size, 0);
});

void t.test("a replica's refusal arrives with its code, hint and nature", async (t) => {
  const header = newHeader();
  await client.openDelta(header);
  await client.abandon(header.vmId, header.deltaId);
  await t.rejects(client.putSegment(generatedSource(header.deltaId, 0, small)), {
    code: "NOT_FOUND",
    hint: "Open it.",
    retryable: false,
  });
});

void t.test(
  "a sink that fails in the middle: its code arrives, its place is given up",
  async (t) => {
    const header = newHeader();
    await client.openDelta(header);
    replica.place = { failAtBytes: MIB };
    const large = { ...small, pieceBytes: MIB, pieceCount: 16 };
    await t.rejects(client.putSegment(generatedSource(header.deltaId, 0, large)), {
      code: "NO_SPACE",
      message: /disk is full/,
      retryable: true,
    });
    t.equal(replica.abortedSinkCount, 1);
    t.equal(replica.aborted.length, 1);
    replica.place = {};
    t.ok(await client.putSegment(generatedSource(header.deltaId, 0, large)));
  },
);

void t.test("a sink that wrote other bytes than were sent is found out", async (t) => {
  const header = newHeader();
  await client.openDelta(header);
  replica.place = { lie: true };
  await t.rejects(client.putSegment(generatedSource(header.deltaId, 0, small)), {
    code: "CORRUPT",
    retryable: true,
  });
  t.equal(replica.completed.size, 0);
  t.equal(replica.aborted.length, 1);
});

void t.test("a source that fails keeps its code, and nothing counts at the replica", async (t) => {
  const header = newHeader();
  await client.openDelta(header);
  const failing = { ...small, failAtPiece: 2 };
  await t.rejects(client.putSegment(generatedSource(header.deltaId, 0, failing)), {
    code: "CAPTURE_BROKEN",
  });
  await until(() => replica.openSlots.size === 0);
  t.equal(replica.completed.size, 0);
});

void t.test("a lane that dies is replaced and its segments may be sent again", async (t) => {
  const header = newHeader(4);
  await client.openDelta(header);
  const dying = { ...small, dieAtPiece: 2 };
  await t.rejects(client.putSegment(generatedSource(header.deltaId, 0, dying)), {
    code: "INTERNAL",
    retryable: true,
    message: /a lane broke .a planted defect/,
  });
  const sources = [0, 1, 2, 3].map((index) => generatedSource(header.deltaId, index, small));
  await Promise.all(sources.map((source) => client.putSegment(source)));
  t.equal(replica.completed.size, 4);
  await until(() => replica.openSlots.size === 0);
});

void t.test("an ingest thread that dies is replaced; its places are given up", async (t) => {
  const header = newHeader();
  await client.openDelta(header);
  replica.place = { dieAtBytes: 0 };
  await t.rejects(client.putSegment(generatedSource(header.deltaId, 0, small)), {
    code: "UNREACHABLE",
    retryable: true,
  });
  await until(() => replica.aborted.length === 1);
  replica.place = {};
  await answering(header);
  t.ok(await client.putSegment(generatedSource(header.deltaId, 0, small)));
});

void t.test("after a broken transfer only what is missing travels", async (t) => {
  const header = newHeader(6);
  await client.openDelta(header);
  const sources = [0, 1, 2, 3, 4, 5].map((index) =>
    generatedSource(header.deltaId, index, { ...small, seed: index + 1 }),
  );
  for (const source of sources.slice(0, 3)) await client.putSegment(source);
  replica.place = { dieAtBytes: 0 };
  const outcomes = await Promise.allSettled(sources.slice(3).map((s) => client.putSegment(s)));
  t.ok(outcomes.every(({ status }) => status === "rejected"));
  replica.place = {};
  await answering(header);

  const durable = await client.openDelta({ ...header, attempt: 2 });
  t.same(
    durable.map(({ segmentIndex }) => segmentIndex).sort((a, b) => a - b),
    [0, 1, 2],
  );
  replica.reserved.length = 0;
  const arrived = new Set(durable.map(({ segmentIndex }) => segmentIndex));
  const missing = sources.filter(({ plan }) => !arrived.has(plan.segmentIndex));
  await Promise.all(missing.map((source) => client.putSegment(source)));
  t.same(
    replica.reserved.map(({ segmentIndex }) => segmentIndex).sort((a, b) => a - b),
    [3, 4, 5],
  );
  t.ok(replica.reserved.every(({ attempt }) => attempt === 2));
  for (const [index, receipt] of replica.completed) {
    t.equal(receipt.sha256, sha256Of({ ...small, seed: index + 1 }));
  }
});

void t.test("cancelling frees everything, whatever a segment was about to do", async (t) => {
  const header = newHeader(8);
  await client.openDelta(header);
  replica.closeGate();
  const controller = new AbortController();
  const slow = { ...small, pieceCount: 1000, delayMs: 1 };
  const sent = Array.from({ length: 8 }, (_, index) =>
    client.putSegment(generatedSource(header.deltaId, index, slow), controller.signal),
  );
  const outcomes = Promise.allSettled(sent);
  await until(() => replica.openSlots.size === 4);
  controller.abort();
  for (const outcome of await outcomes) t.equal(outcome.status, "rejected");
  replica.openGate();
  await until(() => replica.openSlots.size === 0);
  t.equal(replica.abortedSinkCount, replica.reserved.length);
  t.equal(replica.completed.size, 0);

  const aborted = client.status(header.vmId, AbortSignal.abort());
  await t.rejects(aborted);
  t.ok(await client.putSegment(generatedSource(header.deltaId, 0, small)), "lanes are free");
});

void t.test("a reader is held back by a slow replica, within a few MiB", async (t) => {
  const header = newHeader();
  await client.openDelta(header);
  replica.closeGate();
  const counter = new SharedArrayBuffer(8);
  const readBytes = (): number => Number(Atomics.load(new BigInt64Array(counter), 0));
  const recipe = { seed: 5, pieceBytes: MIB / 2, pieceCount: 80, counter };
  const sent = client.putSegment(generatedSource(header.deltaId, 0, recipe));
  await until(() => replica.openSlots.size === 1);
  let before = -1;
  while (readBytes() !== before || before === 0) {
    before = readBytes();
    await delay(150);
  }
  t.ok(before > 0 && before < 24 * MIB, `${before} of ${40 * MIB} bytes were read`);
  replica.openGate();
  t.equal((await sent).sha256, sha256Of(recipe));
});

void t.test("200 MiB go through two lanes in bounded memory", async (t) => {
  const header = newHeader(25);
  await client.openDelta(header);
  const before = process.memoryUsage.rss();
  let highest = before;
  const sampler = setInterval(() => {
    highest = Math.max(highest, process.memoryUsage.rss());
  }, 5);
  const segment = { pieceBytes: MIB, pieceCount: 8 };
  const sources = Array.from({ length: 25 }, (_, index) =>
    generatedSource(header.deltaId, index, { ...segment, seed: 100 + index }),
  );
  await Promise.all(sources.map((source) => client.putSegment(source)));
  clearInterval(sampler);
  t.equal(replica.writtenBytes, 200 * MIB);
  t.equal(lanes.laneCount, 2);
  t.ok(highest - before < 160 * MIB, `memory grew by ${Math.round((highest - before) / MIB)} MiB`);
});

void t.test("after close() everything is refused with CLOSED", async (t) => {
  const ownLanes = newLanes();
  const own = connectTo(server, pki, ownLanes);
  const header = newHeader();
  await own.openDelta(header);
  replica.closeGate();
  const late = own.putSegment(generatedSource(header.deltaId, 0, small));
  const refused = t.rejects(late, { code: "CLOSED" });
  await until(() => replica.openSlots.size === 1);
  await ownLanes.close();
  await refused;
  replica.openGate();
  await until(() => replica.openSlots.size === 0);
  await t.rejects(own.putSegment(generatedSource(header.deltaId, 0, small)), { code: "CLOSED" });
  await own.close();
  await t.rejects(own.status(header.vmId), { code: "CLOSED" });
});
