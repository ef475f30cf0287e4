/** T28, G9: each file operation of a commit fails once; nothing is half there, and the repeat gets through. */
import t, { type Test } from "tap";
import { FailingFiles } from "./support/failing-files.js";
import { plainLayers } from "./support/plain-layers.js";
import { type Blocks, ExpectedDisks, openPlainStore, readBlocks, Scene } from "./support/scene.js";

const ROOT = "/store";

const FIRST: Blocks = { 0: { 0: 11 }, 1: { 0: 12 } };
const STAGED: Blocks = { 0: { 1: 21 }, 1: { 1: 22 } };
const SECOND: Blocks = { 0: { 0: 31, 2: 0 }, 1: { 2: 32 } };

/** A store whose commit of a closing point has just failed; null when nothing was left to fail. */
async function failCommit(t: Test, operation: number, failsAfterEffect: boolean) {
  const files = new FailingFiles();
  const store = await openPlainStore(ROOT, files);
  const scene = new Scene();
  const { vmId } = scene.vm;
  await store.enable(scene.vm, scene.generation);
  const first = await scene.point(store, null, FIRST);
  const stagingSessionId = await store.openStaging(vmId, scene.generation);
  const session = { parentPointId: first.pointId, stagingSessionId };
  await scene.deliver(store, scene.header({ ...session, kind: "staging" }), STAGED);
  const header = scene.header(session);
  const segments = scene.segments(header.deltaId, SECOND);
  await scene.send(store, header, segments);
  Object.assign(files, { operationsUntilFailure: operation, failsAfterEffect });
  const outcome = await scene.commit(store, header, segments).catch((error: unknown) => error);
  if (files.failed === "") return null;
  t.match(outcome, { code: "NO_SPACE" }, `${files.failed} ${operation} failed`);
  t.same(await store.points(vmId), [first], "what was not answered is not shown");
  return { files, store, scene, first, header, segments };
}

const AFTER_FIRST = new ExpectedDisks().with(FIRST);
const AFTER_SECOND = AFTER_FIRST.with(STAGED).with(SECOND);

/** The primary repeats the commit, after a restart where the VM has stopped. */
async function repeatAfter(t: Test, operation: number, failsAfterEffect: boolean) {
  const failed = await failCommit(t, operation, failsAfterEffect);
  if (failed === null) return false;
  const { files, scene, header, segments } = failed;
  const { vmId } = scene.vm;
  let { store } = failed;
  const hasStopped = await store.status(vmId).then(
    () => false,
    () => true,
  );
  if (hasStopped) {
    t.not(files.failed, "write", "only a name that may not be durable stops the VM");
    await store.close();
    store = await openPlainStore(ROOT, files);
  }
  const isCommitted = (await store.status(vmId)).head?.pointId === header.deltaId;
  const again = { ...header, attempt: isCommitted ? 1 : 2 };
  if (!isCommitted) await scene.send(store, again, segments);
  const point = await scene.commit(store, again, segments);
  const content = await readBlocks(store, plainLayers(files), vmId, point?.pointId ?? "");
  t.same(content, AFTER_SECOND.values);
  await store.close();
  return true;
}

/** The primary gives the delta up instead, and the service is started again. */
async function giveUpAfter(t: Test, operation: number, failsAfterEffect: boolean) {
  const failed = await failCommit(t, operation, failsAfterEffect);
  if (failed === null) return false;
  const { files, scene, first, header } = failed;
  const { vmId } = scene.vm;
  await failed.store.abandon(vmId, header.deltaId);
  await failed.store.openStaging(vmId, scene.generation).catch(() => undefined);
  await failed.store.close();
  const store = await openPlainStore(ROOT, files);
  t.ok(await store.status(vmId), "the VM is whole");
  for (const { pointId } of await store.points(vmId)) {
    const expected = pointId === first.pointId ? AFTER_FIRST : AFTER_SECOND;
    const content = await readBlocks(store, plainLayers(files), vmId, pointId);
    t.same(content, expected.values);
  }
  await store.close();
  return true;
}

for (const failsAfterEffect of [false, true]) {
  for (const goOn of [repeatAfter, giveUpAfter]) {
    const when = failsAfterEffect ? "after it took effect" : "without effect";
    void t.test(`T28 G9: an operation of a commit fails ${when}; ${goOn.name}`, async (t) => {
      let operation = 1;
      while (await goOn(t, operation, failsAfterEffect)) operation += 1;
      t.ok(operation > 6, `${operation - 1} operations`);
    });
  }
}
