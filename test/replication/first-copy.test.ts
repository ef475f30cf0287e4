/** A first copy from an existing disk at the replica, as the engine sees it. */
import { randomUUID } from "node:crypto";
import t from "tap";
import { Bench } from "./bench.js";
import { deltaDigest, segmentSource } from "../contracts/segment-bytes.js";
import { DISKS, GRANULARITY, SETTINGS, VM_ID } from "./simulation/scene.js";

const LIMITS = { passBytes: 8 * GRANULARITY, closingBytes: 8, importPollMs: 50 };

/** The replica's administrator names a copy of the disks: all of 0xaa but for these blocks. */
async function seed(bench: Bench, differing: readonly number[]): Promise<void> {
  const { replica } = bench;
  const deltaId = randomUUID();
  const { generation } = await bench.record();
  const stagingSessionId = await replica.openStaging(VM_ID, generation);
  const segments = DISKS.map(({ sizeBytes }, diskIndex) => {
    const data = Buffer.alloc(sizeBytes, 0xaa);
    for (const block of diskIndex === 0 ? differing : []) {
      data.fill(0xbb, block * GRANULARITY, (block + 1) * GRANULARITY);
    }
    const records = [{ offset: 0, length: sizeBytes, data }];
    return {
      deltaId,
      diskIndex,
      segmentIndex: diskIndex,
      granularity: GRANULARITY,
      records,
    };
  });
  await replica.openDelta({
    formatVersion: 1,
    deltaId,
    attempt: 1,
    kind: "staging",
    vmId: VM_ID,
    generation,
    parentPointId: null,
    stagingSessionId,
    cut: { sequence: 1, takenAtMs: 0, pauseNs: 0, requestsInFlight: 0, consistency: "crash" },
    disks: DISKS,
    segmentCount: segments.length,
  });
  for (const segment of segments) await replica.putSegment(segmentSource(segment));
  const digest = deltaDigest(segments);
  await replica.commit({ vmId: VM_ID, deltaId, attempt: 1, generation, digest });
}

async function waitingBench(): Promise<{ bench: Bench; puts: () => number }> {
  const bench = new Bench({ limits: LIMITS });
  let putBytes = 0;
  bench.endpointParts.putSegment = (source) => {
    putBytes += source.plan.contentBytes;
    return bench.replica.putSegment(source);
  };
  await bench.engine.enable(SETTINGS, 0, { by: "seed" });
  await bench.clock.run(200);
  return { bench, puts: () => putBytes };
}

void t.test("it waits for the disk, and then sends what differs", async (t) => {
  const { bench, puts } = await waitingBench();
  t.match(await bench.status(), {
    state: "initial-replication",
    firstCopy: { by: "seed", waitsFor: "seed" },
  });
  t.equal((await bench.replica.status(VM_ID)).head, null, "the replica knows the VM");
  await seed(bench, [3, 9]);
  bench.writeBlock(5, 1);
  await bench.clock.run(2000);
  t.ok(await bench.isReplicaEqual());
  t.equal(puts(), 3 * GRANULARITY, "two blocks that differed, one that was written");
  t.equal((await bench.status()).firstCopy, null);
  bench.writeBlock(11, 2);
  await bench.cycles(2);
  t.ok(await bench.isReplicaEqual());
});

void t.test(
  "G1: a disk that the replica loses after the comparison is not relied upon",
  async (t) => {
    const { bench } = await waitingBench();
    await seed(bench, [3]);
    bench.endpointParts.commit = async () => new Promise(() => {});
    await bench.clock.run(2000);
    t.equal(await bench.pointCount(), 0, "compared, and not closed");
    delete bench.endpointParts.commit;
    bench.replica.loseStaging(VM_ID);
    await bench.crash();
    await bench.clock.run(500);
    t.match(await bench.status(), { firstCopy: { waitsFor: "seed" } });
    await seed(bench, [4]);
    await bench.clock.run(2000);
    t.ok(await bench.isReplicaEqual(), "against the next disk everything is compared anew");
  },
);

void t.test("G1: after a cancellation nothing that was found equal is relied upon", async (t) => {
  const { bench } = await waitingBench();
  await seed(bench, [3]);
  bench.endpointParts.commit = async () => Promise.reject(new Error("no room"));
  await bench.clock.run(2000);
  t.equal(await bench.pointCount(), 0, "compared, and not closed");
  delete bench.endpointParts.commit;
  await bench.engine.cancelInitial(VM_ID);
  bench.replica.loseStaging(VM_ID);
  await bench.engine.startInitial(VM_ID);
  await bench.clock.run(500);
  await seed(bench, [4]);
  await bench.clock.run(100_000);
  t.ok(await bench.isReplicaEqual());
});

void t.test("G1: the way is changed after the comparison", async (t) => {
  const { bench } = await waitingBench();
  await seed(bench, [3]);
  bench.endpointParts.commit = async () => Promise.reject(new Error("no room"));
  await bench.clock.run(2000);
  delete bench.endpointParts.commit;
  await bench.engine.setFirstCopy(VM_ID, null);
  await bench.clock.run(100_000);
  t.ok(await bench.isReplicaEqual());
});

void t.test("the way may be changed while nothing has arrived", async (t) => {
  const { bench } = await waitingBench();
  await bench.engine.setFirstCopy(VM_ID, null);
  await bench.clock.run(2000);
  t.ok(await bench.isReplicaEqual(), "over the network");
  await t.rejects(bench.engine.setFirstCopy(VM_ID, null), { code: "CONFLICT" });
});
