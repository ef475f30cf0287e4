/** The state store takes what it is told, and its answer is lost: nobody has to restart anything. */
import t from "tap";
import { TidemarkError } from "#lib/model/errors.js";
import { Bench } from "./bench.js";
import { SETTINGS, VM_ID } from "./simulation/scene.js";

const lost = () => new TidemarkError("IO_ERROR", "the answer is lost");
const A_WHILE_MS = 60_000;

/** The next put is taken, or not, and not answered. */
function losePut({ store, storeParts }: Bench, isTaken: boolean): void {
  storeParts.put = async (...put) => {
    delete storeParts.put;
    if (isTaken) await store.put(...put);
    throw lost();
  };
}

/** The next so many questions have no answer. */
function loseAnswers({ store, storeParts }: Bench, count: number): void {
  let asked = 0;
  storeParts.get = async (key) => {
    asked += 1;
    if (asked <= count) throw lost();
    return store.get(key);
  };
}

function silence({ storeParts }: Bench): void {
  storeParts.get = async () => {
    throw lost();
  };
}

void t.test("a replication whose note was taken begins, though nobody heard it", async (t) => {
  for (const unanswered of [0, 2]) {
    const bench = new Bench();
    losePut(bench, true);
    loseAnswers(bench, unanswered);
    const enabled = bench.engine.enable(SETTINGS);
    await bench.clock.run(A_WHILE_MS);
    await enabled;
    t.equal((await bench.status()).state, "replicating");
    t.ok(await bench.isReplicaEqual());
  }
});

void t.test("one whose note was not taken is refused, and may be ordered again", async (t) => {
  const bench = new Bench();
  losePut(bench, false);
  await t.rejects(bench.engine.enable(SETTINGS), { message: "the answer is lost" });
  t.notOk(bench.engine.has(VM_ID));
  await bench.enabled();
  t.equal((await bench.status()).state, "replicating");
});

void t.test("while the store is silent nobody says what is not known", async (t) => {
  for (const isTaken of [true, false]) {
    const bench = new Bench();
    losePut(bench, isTaken);
    silence(bench);
    const refused = t.rejects(bench.engine.enable(SETTINGS), {
      code: "IO_ERROR",
      message: /Cannot tell whether/,
    });
    await bench.clock.run(A_WHILE_MS);
    await refused;
    const again = { ...SETTINGS, targetId: "99999999-2222-4222-8222-222222222222" };
    await t.rejects(bench.engine.enable(again), { code: "IN_USE" }, "two would be one too many");
    delete bench.storeParts.get;
    await bench.clock.run(A_WHILE_MS);
    t.equal(bench.engine.has(VM_ID), isTaken, "the store has told by itself");
    if (!isTaken) await bench.engine.enable(again);
    await bench.clock.run(A_WHILE_MS);
    t.equal((await bench.status()).state, "replicating");
    t.equal((await bench.store.list("relationships/")).length, 1);
  }
});

void t.test("what is noted of a VM that was given up meanwhile does not stay", async (t) => {
  const bench = new Bench();
  losePut(bench, true);
  silence(bench);
  const refused = t.rejects(bench.engine.enable(SETTINGS), { message: /Cannot tell whether/ });
  await bench.clock.run(A_WHILE_MS);
  await refused;
  await bench.engine.forget(VM_ID);
  delete bench.storeParts.get;
  await bench.clock.run(A_WHILE_MS);
  t.notOk(bench.engine.has(VM_ID));
  t.same(await bench.store.list("relationships/"), []);
});

void t.test("nothing asks on when the engine is closed", async (t) => {
  const bench = new Bench();
  losePut(bench, true);
  silence(bench);
  const refused = t.rejects(bench.engine.enable(SETTINGS), { message: /Cannot tell whether/ });
  await bench.clock.run(A_WHILE_MS);
  await refused;
  await bench.engine.close();
  await bench.clock.run(1);
  t.equal(bench.clock.timerCount, 0);
});

void t.test("a removal whose deletion was done ends, whoever heard it", async (t) => {
  for (const unanswered of [0, 1]) {
    const bench = await Bench.replicating();
    const { store, storeParts } = bench;
    storeParts.delete = async (...key) => {
      delete storeParts.delete;
      await store.delete(...key);
      throw lost();
    };
    loseAnswers(bench, unanswered);
    const removed = bench.engine.remove(VM_ID);
    if (unanswered === 0) await removed;
    else {
      await t.rejects(removed, { message: "the answer is lost" });
      t.ok(bench.engine.has(VM_ID), "it is not known to be gone");
      await bench.engine.remove(VM_ID);
    }
    t.notOk(bench.engine.has(VM_ID));
    await t.rejects(bench.progress(), { code: "NOT_FOUND" });
    t.same(await store.list("relationships/"), []);
  }
});

void t.test("a removal whose deletion was not done is refused", async (t) => {
  const bench = await Bench.replicating();
  bench.storeParts.delete = async () => {
    throw lost();
  };
  await t.rejects(bench.engine.remove(VM_ID), { message: "the answer is lost" });
  delete bench.storeParts.delete;
  await bench.engine.remove(VM_ID);
  t.same(await bench.store.list("relationships/"), []);
});

void t.test("of two orders for the same target one is carried out", async (t) => {
  const bench = new Bench();
  const { store, storeParts, clock } = bench;
  storeParts.put = async (...put) => {
    await clock.sleep(10);
    return store.put(...put);
  };
  const first = bench.engine.enable(SETTINGS);
  const other = { ...SETTINGS, targetId: "99999999-2222-4222-8222-222222222222" };
  await t.rejects(bench.engine.enable(other), { code: "IN_USE" });
  await bench.clock.run(A_WHILE_MS);
  await first;
  t.equal((await store.list("relationships/")).length, 1);
  t.same(bench.engine.idsOf(VM_ID), [VM_ID]);
});

void t.test("a removal that is ordered twice leaves what was enabled in between", async (t) => {
  const bench = await Bench.replicating();
  const removed = bench.engine.remove(VM_ID);
  const slow = bench.engine.remove(VM_ID);
  await removed;
  const other = { ...SETTINGS, targetId: "99999999-2222-4222-8222-222222222222" };
  await bench.engine.enable(other);
  await slow;
  await bench.cycles(2);
  t.ok(bench.engine.has(VM_ID));
  t.equal((await bench.store.list("relationships/")).length, 1);
});

void t.test("a resumption whose note was taken unheard is completed by the next", async (t) => {
  const bench = await Bench.replicating();
  await bench.engine.suspend(VM_ID);
  losePut(bench, true);
  await t.rejects(bench.engine.resume(VM_ID), { message: "the answer is lost" });
  // As what another target of the VM decides does.
  const further = { ...SETTINGS, targetName: "far", replicaUrl: "https://far.example.com:4443" };
  await bench.engine.enable({ ...further, targetId: "99999999-2222-4222-8222-222222222222" });
  await bench.cycles(2);
  await bench.engine.handOver("99999999-2222-4222-8222-222222222222").catch(() => undefined);
  await bench.engine.resume(VM_ID);
  bench.writeBlock(3, 7);
  await bench.cycles(3);
  t.ok(await bench.isReplicaEqual());
});
