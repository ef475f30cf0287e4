import t from "tap";
import { TidemarkError } from "#lib/model/errors.js";
import { DEFAULT_REPLICATION_LIMITS } from "#lib/replication/replication-limits.js";
import { Bench } from "./bench.js";
import { DISKS, GRANULARITY, SETTINGS, TARGET_ID, VM_ID } from "./simulation/scene.js";

const unreachable = () => Promise.reject(new TidemarkError("UNREACHABLE", "the line is down"));

void t.test("initial replication ends in a point that equals the disks", async (t) => {
  const bench = await Bench.replicating({
    limits: { passBytes: 8 * GRANULARITY, closingBytes: 8 },
  });
  t.equal(await bench.pointCount(), 1);
  t.ok(await bench.isReplicaEqual());
  t.same(
    bench.of("state").map(({ state }) => state),
    ["initial-replication", "replicating"],
  );
  const sent = bench.of("initial-progress").map((event) => event.sentBytes);
  t.same(
    sent,
    [...sent].sort((left, right) => left - right),
    "progress never goes back",
  );
  const last = bench.of("initial-progress").at(-1);
  t.equal(last?.sentBytes, last?.totalBytes);
  t.equal((await bench.status()).lastCycle?.kind, "initial");
  t.match(await bench.progress(), { pendingBytes: 0, inFlightBytes: 0, stagedBytes: 0 });
});

void t.test(
  "G9: a crash during initial replication costs at most the pass under way",
  async (t) => {
    const bench = new Bench({ limits: { passBytes: 8 * GRANULARITY, closingBytes: 8 } });
    let puts = 0;
    bench.endpointParts.putSegment = async (source) => {
      puts += 1;
      return puts === 5 ? new Promise(() => {}) : bench.replica.putSegment(source);
    };
    await bench.engine.enable(SETTINGS);
    await bench.clock.run(10);
    t.equal(await bench.pointCount(), 0);
    const { stagedBytes } = await bench.progress();
    t.ok(stagedBytes > 0, "something is staged already");
    puts = 100;
    const before = puts;
    await bench.crash();
    await bench.clock.run(10);
    t.ok(await bench.isReplicaEqual());
    t.ok(puts - before <= 6, `${puts - before} segments for what was missing`);
  },
);

void t.test("a cycle brings what changed, and nothing else", async (t) => {
  const bench = await Bench.replicating();
  bench.writeBlock(3, 1);
  bench.writeBlock(9, 2);
  await bench.cycles(1);
  const { lastCycle } = await bench.status();
  t.equal(lastCycle?.changedBytes, 2 * GRANULARITY);
  t.equal(await bench.pointCount(), 2);
  t.ok(await bench.isReplicaEqual());
});

void t.test("an empty cycle extends the head's validity and notes nothing", async (t) => {
  const bench = await Bench.replicating();
  const before = await bench.store.list("");
  await bench.cycles(3);
  t.equal(await bench.pointCount(), 1);
  t.same(await bench.store.list(""), before);
  const head = await bench.head();
  t.ok((head?.validUntilMs ?? 0) > (head?.takenAtMs ?? 0));
  t.equal((await bench.status()).lastCycle?.pointId, null);
  t.ok(((await bench.status()).lagMs ?? 1e9) <= SETTINGS.intervalMs);
});

void t.test("an empty cycle is one request, asked again when it has no answer", async (t) => {
  const bench = await Bench.replicating();
  const asked: string[] = [];
  bench.endpointParts.openDelta = (header) => {
    asked.push("openDelta");
    return bench.replica.openDelta(header);
  };
  bench.endpointParts.commit = async (request) => {
    asked.push("commit");
    const point = await bench.replica.commit(request);
    if (asked.length === 1) throw new TidemarkError("UNREACHABLE", "the answer is lost");
    return point;
  };
  const { missedCycleCount } = await bench.status();
  await bench.cycles(1);
  t.same(asked, ["commit"]);
  await bench.clock.run(DEFAULT_REPLICATION_LIMITS.retryBaseMs);
  t.same(asked, ["commit", "commit"]);
  t.match(await bench.status(), { missedCycleCount, lastError: null, state: "replicating" });
  t.equal(await bench.pointCount(), 1);
});

void t.test("a lost commit answer is settled by asking; nothing travels twice", async (t) => {
  const bench = await Bench.replicating();
  let commits = 0;
  let puts = 0;
  bench.endpointParts.putSegment = (source) => {
    puts += 1;
    return bench.replica.putSegment(source);
  };
  bench.endpointParts.commit = async (request) => {
    commits += 1;
    await bench.replica.commit(request);
    return unreachable();
  };
  bench.writeBlock(3, 1);
  await bench.cycles(1);
  t.same([commits, puts, await bench.pointCount()], [1, 1, 2]);
  const record = await bench.record();
  t.equal(record.inDoubt, null);
  t.equal(record.headPointId, (await bench.head())?.pointId);
  t.equal((await bench.progress()).pendingBytes, 0);
});

void t.test("T22 T23: bits stay marked until the replica acknowledged the commit", async (t) => {
  const bench = await Bench.replicating();
  let marked: unknown;
  bench.endpointParts.commit = async (request) => {
    marked = bench.tracker.marksOf(TARGET_ID, 0, 3);
    t.equal((await bench.record()).inDoubt?.deltaId, request.deltaId, "noted before it is asked");
    return bench.replica.commit(request);
  };
  bench.writeBlock(3, 1);
  await bench.cycles(1);
  t.match(marked, { live: false, pending: false, inFlight: true, staged: false });
  t.equal((await bench.progress()).inFlightBytes, 0);
});

void t.test("after a crash in doubt a committed delta is adopted", async (t) => {
  const bench = await Bench.replicating();
  bench.endpointParts.commit = async (request) => {
    await bench.replica.commit(request);
    return new Promise(() => {});
  };
  bench.writeBlock(3, 1);
  await bench.cycles(1);
  t.ok((await bench.record()).inDoubt);
  delete bench.endpointParts.commit;
  await bench.crash();
  await bench.clock.run(1);
  const record = await bench.record();
  t.same([record.inDoubt, record.headPointId], [null, (await bench.head())?.pointId]);
  await bench.cycles(2);
  t.ok(await bench.isReplicaEqual());
  t.equal(bench.of("error").length, 0);
});

void t.test("after a crash in doubt a delta that never arrived is abandoned", async (t) => {
  const bench = await Bench.replicating();
  const late: (() => Promise<unknown>)[] = [];
  bench.endpointParts.commit = (request) => {
    late.push(() => bench.replica.commit(request));
    return new Promise(() => {});
  };
  bench.writeBlock(3, 1);
  await bench.cycles(1);
  delete bench.endpointParts.commit;
  await bench.crash();
  await bench.clock.run(1);
  t.equal((await bench.record()).inDoubt, null);
  await t.rejects(late[0]?.() ?? Promise.resolve(), { code: "NOT_FOUND" }, "its late commit fails");
  await bench.cycles(2);
  t.ok(await bench.isReplicaEqual());
});

void t.test(
  "a replica with another head is a conflict with a way out, not overwritten",
  async (t) => {
    const bench = await Bench.replicating();
    bench.writeBlock(3, 1);
    await bench.cycles(1);
    bench.replica.rollBack(VM_ID, 1);
    bench.writeBlock(4, 1);
    await bench.cycles(2);
    const status = await bench.status();
    t.same([status.state, status.health], ["error", "critical"]);
    t.match(status.lastError, { code: "CONFLICT", message: /somebody else/, hint: /enable/ });
    await bench.clock.run(200_000);
    t.equal(await bench.pointCount(), 1);
    t.ok((await bench.progress()).pendingBytes > 0, "what is not there stays marked");
  },
);

void t.test("G6: a promotion at the replica fences this side", async (t) => {
  const bench = await Bench.replicating();
  bench.replica.setGeneration(VM_ID, { number: 2, id: TARGET_ID });
  bench.writeBlock(3, 1);
  await bench.cycles(1);
  t.match(await bench.status(), { state: "error", lastError: { code: "FENCED" } });
  t.equal(await bench.pointCount(), 1);
});

void t.test("what an administrator must act on is retried slowly, or on resume", async (t) => {
  const bench = await Bench.replicating();
  let asked = 0;
  bench.endpointParts.openDelta = () => {
    asked += 1;
    return Promise.reject(new TidemarkError("UNAUTHENTICATED", "no", { hint: "Renew it." }));
  };
  bench.writeBlock(3, 1);
  await bench.cycles(1);
  t.match(await bench.status(), { state: "error", lastError: { hint: "Renew it." } });
  await bench.clock.run(50_000);
  t.equal(asked, 1);
  await bench.clock.run(12_000);
  t.equal(asked, 2, "a minute later");
  delete bench.endpointParts.openDelta;
  await bench.engine.resume(VM_ID);
  await bench.cycles(2);
  t.match(await bench.status(), { state: "replicating", health: "normal", lastError: null });
  t.ok(await bench.isReplicaEqual());
});

void t.test("a segment that fails is sent again while the others stay", async (t) => {
  const bench = await Bench.replicating();
  const put: number[] = [];
  bench.endpointParts.putSegment = (source) => {
    put.push(source.plan.segmentIndex);
    const isFirstTryOfOne = source.plan.segmentIndex === 1 && put.indexOf(1) === put.length - 1;
    return isFirstTryOfOne ? unreachable() : bench.replica.putSegment(source);
  };
  for (let block = 0; block < 16; block += 1) bench.writeBlock(block, 7);
  await bench.cycles(2);
  t.equal(put.filter((index) => index === 1).length, 2);
  t.equal(put.filter((index) => index === 0).length, 1);
  t.equal(await bench.pointCount(), 2);
  t.ok(await bench.isReplicaEqual());
});

void t.test("a delta that does not get through is given back and counted as missed", async (t) => {
  const bench = await Bench.replicating();
  bench.endpointParts.putSegment = unreachable;
  bench.writeBlock(3, 1);
  await bench.cycles(12);
  const status = await bench.status();
  t.equal(status.state, "replicating");
  t.ok(status.missedCycleCount >= 2);
  t.not(status.health, "normal");
  const { pendingBytes, inFlightBytes } = await bench.progress();
  t.equal(pendingBytes + inFlightBytes, GRANULARITY);
  delete bench.endpointParts.putSegment;
  await bench.clock.run(20_000);
  t.ok(await bench.isReplicaEqual());
  const { health, healthReasons, lastError } = await bench.status();
  t.not(health, "critical");
  t.match(healthReasons, [/cycles were missed: one is due every 1.0 s/], "and nothing else");
  t.equal(lastError, null);
  bench.engine.forgetMissed(VM_ID);
  t.match(await bench.status(), { health: "normal", healthReasons: [] });
});

void t.test("a block is released when its segment is acknowledged, not before", async (t) => {
  const bench = await Bench.replicating({ captureBudgetBytes: 0 });
  let answer: (() => void) | undefined;
  bench.endpointParts.putSegment = async (source) => {
    const receipt = await bench.replica.putSegment(source);
    await new Promise<void>((resolve) => {
      answer = resolve;
    });
    return receipt;
  };
  bench.writeBlock(3, 1);
  await bench.cycles(1);
  bench.writeBlock(3, 2);
  answer?.();
  await bench.clock.run(1);
  t.equal(
    bench.of("error").at(-1)?.error.code,
    "CAPTURE_BROKEN",
    "still frozen: the copy broke it",
  );
});

void t.test("T20: after a capture that broke for space, the next cycle drains first", async (t) => {
  const bench = await Bench.replicating({ captureBudgetBytes: 0 });
  const kinds: string[] = [];
  bench.endpointParts.openDelta = (header) => {
    kinds.push(header.kind);
    if (kinds.length === 1) bench.writeBlock(3, 2);
    return bench.replica.openDelta(header);
  };
  bench.writeBlock(3, 1);
  await bench.cycles(3);
  t.same(kinds.slice(0, 3), ["point", "staging", "point"]);
  t.ok(await bench.isReplicaEqual());
});

void t.test("more pending than a capture holds is drained first", async (t) => {
  const bench = await Bench.replicating({ limits: { captureBytes: 4 * GRANULARITY } });
  const kinds: string[] = [];
  bench.endpointParts.openDelta = (header) => {
    kinds.push(header.kind);
    return bench.replica.openDelta(header);
  };
  for (let block = 0; block < 5; block += 1) bench.writeBlock(block, 7);
  await bench.cycles(1);
  t.same(kinds, ["staging", "point"]);
  t.ok(await bench.isReplicaEqual());
});

void t.test(
  "a gate that does not open is a missed cycle, and gets more time up to a limit",
  async (t) => {
    const bench = await Bench.replicating({ limits: { drainLimitMs: 50, drainLimitMaxMs: 150 } });
    const limits: (number | undefined)[] = [];
    bench.trackerParts.checkpoint = async (id, options) => {
      limits.push(options?.drainLimitMs);
      if (limits.length < 4) throw new TidemarkError("TIMED_OUT", "the gate did not open");
      return bench.tracker.checkpoint(id, options);
    };
    bench.writeBlock(3, 1);
    await bench.cycles(5);
    t.same(limits.slice(0, 4), [50, 100, 150, 150]);
    const status = await bench.status();
    t.equal(status.missedCycleCount, 3);
    t.match(bench.of("missed")[0]?.reason, /within 50 ms/);
    t.ok(status.healthReasons.some((reason) => reason.includes("Slow storage")));
    t.ok(await bench.isReplicaEqual());
  },
);

void t.test("cycles never overlap, and late ones count as missed", async (t) => {
  const bench = await Bench.replicating();
  let underWay = 0;
  let mostAtOnce = 0;
  bench.trackerParts.checkpoint = (id, options) => {
    underWay += 1;
    mostAtOnce = Math.max(mostAtOnce, underWay);
    return bench.tracker.checkpoint(id, options);
  };
  bench.endpointParts.commit = async (request) => {
    await bench.clock.sleep(2500);
    underWay -= 1;
    return bench.replica.commit(request);
  };
  for (let round = 0; round < 20; round += 1) {
    bench.writeBlock(round, round);
    await bench.clock.run(500);
  }
  t.equal(mostAtOnce, 1);
  const { missedCycleCount, cycleCount } = await bench.status();
  t.ok(missedCycleCount >= 4 && cycleCount >= 3, `${missedCycleCount} missed of ${cycleCount}`);
});

void t.test("no more segments are on their way than allowed", async (t) => {
  const bench = await Bench.replicating({ limits: { parallelSegments: 2, segmentBytes: 8 } });
  let underWay = 0;
  let mostAtOnce = 0;
  bench.endpointParts.putSegment = async (source) => {
    underWay += 1;
    mostAtOnce = Math.max(mostAtOnce, underWay);
    await bench.clock.sleep(10);
    underWay -= 1;
    return bench.replica.putSegment(source);
  };
  for (let block = 0; block < 10; block += 1) bench.writeBlock(block, 7);
  await bench.cycles(2);
  t.equal(mostAtOnce, 2);
  t.ok(await bench.isReplicaEqual());
});

void t.test("suspend stops durably, resume goes on", async (t) => {
  const bench = await Bench.replicating();
  await bench.engine.suspend(VM_ID);
  await bench.engine.suspend(VM_ID);
  bench.writeBlock(3, 1);
  await bench.cycles(5);
  t.equal(await bench.pointCount(), 1);
  await bench.crash();
  await bench.cycles(5);
  t.match(await bench.status(), { state: "suspended", health: "warning" });
  t.equal(await bench.pointCount(), 1);
  await bench.engine.resume(VM_ID);
  await bench.cycles(2);
  t.equal((await bench.status()).state, "replicating");
  t.ok(await bench.isReplicaEqual());
});

void t.test("closing in the middle of a cycle gives back and leaves nothing running", async (t) => {
  const bench = await Bench.replicating();
  bench.endpointParts.putSegment = (_, signal) =>
    new Promise((_resolve, reject) => {
      signal?.addEventListener("abort", () => reject(signal.reason as Error));
    });
  bench.writeBlock(3, 1);
  await bench.cycles(1);
  t.equal((await bench.progress()).inFlightBytes, GRANULARITY);
  await bench.engine.close();
  t.match(await bench.progress(), {
    pendingBytes: GRANULARITY,
    inFlightBytes: 0,
    stagedBytes: 0,
  });
  t.equal(bench.clock.timerCount, 0);
  await t.rejects(bench.engine.enable(SETTINGS), { code: "CLOSED" });
});

void t.test(
  "removing forgets the target and the record, the replica keeps its points",
  async (t) => {
    const bench = await Bench.replicating();
    await bench.engine.remove(VM_ID);
    t.same(await bench.store.list(""), []);
    await t.rejects(bench.progress(), { code: "NOT_FOUND" });
    await t.rejects(async () => bench.status(), { code: "NOT_FOUND" });
    t.equal(await bench.pointCount(), 1);
  },
);

void t.test("an interrupted removal never trusts bits that are gone", async (t) => {
  const bench = await Bench.replicating();
  bench.storeParts.delete = () => new Promise(() => {});
  void bench.engine.remove(VM_ID);
  await bench.clock.run(1);
  delete bench.storeParts.delete;
  await bench.crash();
  t.match(await bench.record(), { state: "suspended", allocationMarked: false });
  await bench.engine.remove(VM_ID);
  t.same(await bench.store.list(""), []);
});

void t.test("a removal that failed is repeated, and nothing else", async (t) => {
  const bench = await Bench.replicating();
  bench.trackerParts.removeTarget = () => Promise.reject(new Error("the disk has a bad day"));
  await t.rejects(bench.engine.remove(VM_ID), { message: "the disk has a bad day" });
  for (const isRestarted of [false, true]) {
    if (isRestarted) await bench.crash();
    const isUnfit = { code: "CONFLICT", message: /removal was begun/, hint: /vm remove/ };
    await t.rejects(bench.engine.resume(VM_ID), isUnfit);
    await bench.cycles(2);
    const { state, health, healthReasons } = await bench.status();
    t.match([state, health, healthReasons[0]], ["suspended", "critical", /repeat it/]);
  }
  delete bench.trackerParts.removeTarget;
  await bench.engine.remove(VM_ID);
  t.same(await bench.store.list(""), []);
});

void t.test(
  "T12: a target whose bits are gone is compared as a whole, and what differs travels",
  async (t) => {
    const bench = await Bench.replicating();
    await bench.tracker.removeTarget(TARGET_ID);
    bench.tracker.writeUnseen(0, 3 * GRANULARITY, Buffer.alloc(GRANULARITY, 0x33));
    await bench.crash();
    await bench.cycles(3);
    t.ok(await bench.isReplicaEqual());
    t.equal(await bench.pointCount(), 2);
    const allBytes = DISKS.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const { lastHealing, suspectBytes } = await bench.status();
    t.match(lastHealing, { causes: ["bitmap lost"], comparedBytes: allBytes });
    t.equal(lastHealing?.differingBytes, GRANULARITY, "nothing but what differs");
    t.equal(suspectBytes, 0);
  },
);

void t.test("T16: suspect blocks that are as the replica has them do not travel", async (t) => {
  const bench = await Bench.replicating();
  bench.tracker.suspect(0, 0, 8 * GRANULARITY, "power loss");
  await bench.cycles(2);
  t.equal(await bench.pointCount(), 1);
  t.match(await bench.status(), {
    suspectBytes: 0,
    suspicionCauses: [],
    lastHealing: { comparedBytes: 8 * GRANULARITY, differingBytes: 0, causes: ["power loss"] },
  });
});

void t.test("no point is made while the replica does not answer for what is suspect", async (t) => {
  const bench = await Bench.replicating();
  bench.endpointParts.blockHashes = unreachable;
  bench.tracker.writeUnseen(0, 0, Buffer.alloc(GRANULARITY, 0x77));
  bench.tracker.suspect(0, 0, GRANULARITY, "modified while the filter was away");
  bench.writeBlock(5, 5);
  await bench.cycles(5);
  t.equal(await bench.pointCount(), 1);
  t.match(await bench.status(), { suspectBytes: GRANULARITY, health: "warning" });
  delete bench.endpointParts.blockHashes;
  await bench.cycles(15);
  t.ok(await bench.isReplicaEqual());
  t.equal(await bench.pointCount(), 2);
});

void t.test(
  "a comparison that new suspicion overtakes again and again ends with all of it in the cut",
  async (t) => {
    const bench = await Bench.replicating();
    bench.tracker.suspect(0, 0, 4 * GRANULARITY, "lost writes");
    let asked = 0;
    bench.endpointParts.blockHashes = async (request) => {
      asked += 1;
      const hashes = await bench.replica.blockHashes(request);
      bench.tracker.writeUnseen(0, 0, Buffer.alloc(GRANULARITY, asked));
      bench.tracker.suspect(0, 0, 1, "lost writes");
      return hashes;
    };
    await bench.cycles(2);
    t.ok(asked >= 10);
    t.ok(await bench.isReplicaEqual());
    t.equal(await bench.pointCount(), 2);
  },
);

void t.test("a VM is replicated once, with settings that make sense", async (t) => {
  const bench = await Bench.replicating();
  await t.rejects(bench.engine.enable(SETTINGS), { code: "ALREADY_EXISTS" });
  await t.rejects(bench.engine.enable({ ...SETTINGS, vmId: "../x" }), { code: "INVALID_ARGUMENT" });
  const hasty = { ...SETTINGS, vmId: TARGET_ID, intervalMs: 1 };
  await t.rejects(bench.engine.enable(hasty), { code: "INVALID_ARGUMENT" });
});

void t.test("a segment that the replica acknowledged and lost ends the delta", async (t) => {
  const bench = await Bench.replicating();
  let opens = 0;
  bench.endpointParts.openDelta = async (header) => {
    opens += 1;
    if (opens === 2) await bench.replica.abandon(VM_ID, "another");
    const durable = await bench.replica.openDelta(header);
    return opens === 2 ? [] : durable;
  };
  let puts = 0;
  bench.endpointParts.putSegment = (source) => {
    puts += 1;
    return puts === 4 ? unreachable() : bench.replica.putSegment(source);
  };
  for (let block = 0; block < 16; block += 1) bench.writeBlock(block, 7);
  await bench.cycles(3);
  t.ok(await bench.isReplicaEqual());
  t.same(
    bench.of("state").map(({ state }) => state),
    ["initial-replication", "replicating"],
  );
});
