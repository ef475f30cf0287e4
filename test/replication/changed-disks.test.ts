import t from "tap";
import { TidemarkError } from "#lib/model/errors.js";
import { Bench } from "./bench.js";
import { DISKS, GRANULARITY, GUEST_DISK, SETTINGS, TARGET_ID, VM_ID } from "./simulation/scene.js";

const GUEST_CONTENT = Buffer.alloc(GUEST_DISK.sizeBytes);
GUEST_CONTENT.fill(0x55, 0, 3 * GRANULARITY);

/** Adds the disk as a host does: between two cycles. */
async function add(bench: Bench, content: Uint8Array = GUEST_CONTENT): Promise<void> {
  const added = bench.engine.changeDisks(VM_ID, async () =>
    bench.tracker.addDisk(GUEST_DISK, content),
  );
  await bench.clock.run(1);
  await added;
}

async function remove(bench: Bench): Promise<void> {
  const removed = bench.engine.changeDisks(VM_ID, async () =>
    bench.tracker.removeDisk(GUEST_DISK.diskId),
  );
  await bench.clock.run(1);
  await removed;
}

async function headDiskNames(bench: Bench): Promise<readonly string[]> {
  const pointId = (await bench.head())?.pointId ?? "";
  return bench.replica.disksOf(VM_ID, pointId).disks.map(({ name }) => name);
}

void t.test("T34: a disk that is added travels in full, the others as before", async (t) => {
  const bench = await Bench.replicating();
  const before = await bench.replica.points(VM_ID);
  bench.writeBlock(3, 1);
  await add(bench);
  await bench.cycles(1);
  const changedBytes = bench.of("cycle").map(({ report }) => report.changedBytes);
  t.same(
    changedBytes.slice(1).filter((bytes) => bytes > 0),
    [(3 + 1) * GRANULARITY],
  );
  const points = await bench.replica.points(VM_ID);
  t.equal(points.length, 2);
  t.equal(points[0]?.pointId, before[0]?.pointId);
  t.same(
    bench.replica.disksOf(VM_ID, points[0]?.pointId ?? "").disks,
    DISKS,
    "the older point has the disks that it had",
  );
  t.same(await headDiskNames(bench), ["vda", "vdb", "vdc"]);
  t.ok(await bench.isReplicaEqual());
  await bench.cycles(3);
  t.equal(await bench.pointCount(), 2, "then nothing changes any more");
});

void t.test("T34: an empty disk that is added makes a point that has it", async (t) => {
  const bench = await Bench.replicating();
  await add(bench, new Uint8Array(0));
  await bench.cycles(2);
  t.same(await headDiskNames(bench), ["vda", "vdb", "vdc"]);
  t.equal(await bench.pointCount(), 2);
});

void t.test(
  "a large disk is drained into staging, and no point comes before all of it",
  async (t) => {
    const bench = await Bench.replicating({
      limits: { captureBytes: GRANULARITY, passBytes: GRANULARITY, closingBytes: 1 },
    });
    const kinds: string[] = [];
    bench.endpointParts.openDelta = (header) => {
      kinds.push(header.kind);
      return bench.replica.openDelta(header);
    };
    await add(bench);
    await bench.cycles(1);
    t.same(kinds.slice(0, 4), ["staging", "staging", "staging", "point"]);
    t.equal(await bench.pointCount(), 2);
    t.ok(await bench.isReplicaEqual());
  },
);

void t.test("T35: the first copy of a disk goes on where a crash has interrupted it", async (t) => {
  const bench = await Bench.replicating({
    limits: { captureBytes: GRANULARITY, passBytes: GRANULARITY, closingBytes: 1 },
  });
  let puts = 0;
  bench.endpointParts.putSegment = async (source) => {
    puts += 1;
    return puts === 3 ? new Promise(() => {}) : bench.replica.putSegment(source);
  };
  await add(bench);
  await bench.cycles(1);
  t.ok((await bench.progress()).stagedBytes > 0);
  await bench.crash();
  await bench.cycles(2);
  t.ok(await bench.isReplicaEqual());
  t.equal(puts, 4, "one pass was sent twice");
});

void t.test(
  "a disk that is removed is not in the next point, and stays in the older ones",
  async (t) => {
    const bench = await Bench.replicating();
    await add(bench);
    await bench.cycles(1);
    const withDisk = (await bench.head())?.pointId ?? "";
    await remove(bench);
    await bench.cycles(2);
    t.same(await headDiskNames(bench), ["vda", "vdb"]);
    t.equal(await bench.pointCount(), 3, "a point says that it is gone");
    const there = bench.replica.contentOf(VM_ID, withDisk, GUEST_DISK.diskId);
    t.ok(Buffer.from(there).equals(GUEST_CONTENT));
    t.same((await bench.record()).departedDiskIds, [], "nothing of it is in the head");
  },
);

void t.test("a disk that was away and comes back is what it is now, not what it was", async (t) => {
  for (const pointsBetween of [true, false]) {
    const bench = await Bench.replicating();
    await add(bench);
    await bench.cycles(1);
    if (!pointsBetween) bench.endpointParts.commit = () => new Promise(() => {});
    await remove(bench);
    await bench.cycles(1);
    delete bench.endpointParts.commit;
    await bench.crash();
    const other = Buffer.alloc(GUEST_DISK.sizeBytes);
    other.fill(0x66, 5 * GRANULARITY);
    await add(bench, other);
    await bench.cycles(3);
    t.ok(await bench.isReplicaEqual());
  }
});

void t.test("a crash at each note of a change leaves a relationship that goes on", async (t) => {
  for (let dies = 1; dies <= 6; dies += 1) {
    const bench = await Bench.replicating();
    let puts = 0;
    bench.storeParts.put = (key, value, version) => {
      puts += 1;
      return puts === dies ? new Promise(() => {}) : bench.store.put(key, value, version);
    };
    void bench.engine.changeDisks(VM_ID, async () =>
      bench.tracker.addDisk(GUEST_DISK, GUEST_CONTENT),
    );
    await bench.cycles(2);
    delete bench.storeParts.put;
    await bench.crash();
    await bench.cycles(2);
    t.same(await headDiskNames(bench), ["vda", "vdb", "vdc"], `note ${dies}`);
    t.ok(await bench.isReplicaEqual(), `note ${dies}`);
    t.equal(bench.of("error").length, 0, `note ${dies}`);
  }
});

void t.test("a change that fails leaves everything as it was", async (t) => {
  const bench = await Bench.replicating();
  const failing = bench.engine.changeDisks(VM_ID, async () => Promise.reject(new Error("no")));
  await bench.clock.run(1);
  await t.rejects(failing, { message: "no" });
  bench.writeBlock(3, 1);
  await bench.cycles(1);
  t.equal((await bench.status()).lastCycle?.changedBytes, GRANULARITY);
  t.ok(await bench.isReplicaEqual());
});

void t.test(
  "a record of the version before is gone on with, and its disks are all known",
  async (t) => {
    const bench = await Bench.replicating();
    const [document] = await bench.store.list("relationships/");
    const { markedDiskIds: _, headDisks: __, departedDiskIds: ___, ...old } = await bench.record();
    await bench.store.put(document?.key ?? "", old);
    await bench.crash();
    await add(bench);
    await bench.cycles(2);
    t.ok(await bench.isReplicaEqual());
    t.equal((await bench.status()).lastHealing, null, "nothing was compared");
    t.equal((await bench.record()).markedDiskIds?.length, 3);
  },
);

void t.test("a replica that refuses other disks says what to do", async (t) => {
  const bench = await Bench.replicating();
  const refused = new TidemarkError("CONFLICT", "Cannot enable: because it has other disks.");
  bench.endpointParts.enable = () => Promise.reject(refused);
  await add(bench);
  await bench.cycles(2);
  const { state, lastError } = await bench.status();
  t.match({ state, lastError }, { state: "error", lastError: { hint: /Update Tidemark/ } });
  await remove(bench);
  await bench.engine.resume(VM_ID);
  await bench.cycles(2);
  t.equal((await bench.status()).state, "replicating");
  t.ok(await bench.isReplicaEqual());
});

void t.test("a suspended VM's disks change too", async (t) => {
  const bench = await Bench.replicating();
  await bench.engine.suspend(VM_ID);
  await add(bench);
  await bench.cycles(2);
  t.equal(await bench.pointCount(), 1);
  await bench.engine.resume(VM_ID);
  await bench.cycles(1);
  t.ok(await bench.isReplicaEqual());
  t.ok(await bench.tracker.hasTarget(TARGET_ID));
  t.equal((await bench.status()).settings.intervalMs, SETTINGS.intervalMs);
});

void t.test("T11: a disk that is cut makes a point, also when the answer is lost", async (t) => {
  const bench = await Bench.replicating();
  const before = (await bench.head())?.pointId ?? "";
  bench.endpointParts.commit = async (request) => {
    await bench.replica.commit(request);
    delete bench.endpointParts.commit;
    return new Promise(() => {});
  };
  bench.tracker.resizeDisk(0, 10 * GRANULARITY);
  await bench.cycles(1);
  await bench.crash();
  await bench.cycles(2);
  t.equal((await bench.status()).state, "replicating");
  t.equal(await bench.pointCount(), 2);
  t.ok(await bench.isReplicaEqual());
  t.equal(bench.replica.contentOf(VM_ID, before, 0).length, DISKS[0]?.sizeBytes, "and not before");
  bench.tracker.resizeDisk(0, 30 * GRANULARITY);
  await bench.cycles(1);
  t.equal((await bench.status()).lastCycle?.changedBytes, 20 * GRANULARITY);
  t.ok(await bench.isReplicaEqual());
});

void t.test("T11: the same when it is not noted which disks the head has", async (t) => {
  const bench = await Bench.replicating();
  const [document] = await bench.store.list("relationships/");
  const { headDisks: _, ...unnoted } = await bench.record();
  await bench.store.put(document?.key ?? "", unnoted);
  await bench.crash();
  bench.endpointParts.commit = async (request) => {
    await bench.replica.commit(request);
    delete bench.endpointParts.commit;
    return new Promise(() => {});
  };
  bench.tracker.resizeDisk(0, 10 * GRANULARITY);
  await bench.cycles(1);
  await bench.crash();
  await bench.cycles(2);
  t.match(await bench.status(), { state: "replicating", lastError: null });
  t.equal(await bench.pointCount(), 2);
  t.ok(await bench.isReplicaEqual());
});

void t.test(
  "a replica of the version before does without the disks that are left out",
  async (t) => {
    const bench = await Bench.replicating();
    const strip = <T extends object>(request: T): T => {
      const known = { ...request };
      Reflect.deleteProperty(known, "excludedDisks");
      return known;
    };
    bench.endpointParts.enable = (vm, generation) => bench.replica.enable(strip(vm), generation);
    bench.endpointParts.openDelta = (header) => bench.replica.openDelta(strip(header));
    bench.excludedDisks = [GUEST_DISK];
    const changed = bench.engine.changeDisks(VM_ID, async () => {});
    await bench.clock.run(1);
    await changed;
    bench.writeBlock(3, 1);
    await bench.cycles(3);
    t.ok(await bench.isReplicaEqual());
    t.equal((await bench.status()).state, "replicating");
    t.equal(bench.of("error").length, 0);
  },
);

void t.test(
  "a disk that is left out is told, and belongs to the points from then on",
  async (t) => {
    const bench = await Bench.replicating();
    bench.excludedDisks = [GUEST_DISK];
    const changed = bench.engine.changeDisks(VM_ID, async () => {});
    await bench.clock.run(1);
    await changed;
    await bench.cycles(2);
    const [before, after] = await bench.replica.points(VM_ID);
    t.same(bench.replica.disksOf(VM_ID, after?.pointId ?? "").excludedDisks, [GUEST_DISK]);
    t.same(bench.replica.disksOf(VM_ID, before?.pointId ?? "").excludedDisks ?? [], []);
    t.equal(await bench.pointCount(), 2);
    t.same((await bench.replica.status(VM_ID)).vm.excludedDisks, [GUEST_DISK]);
  },
);
