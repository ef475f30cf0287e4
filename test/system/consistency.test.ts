/**
 * Dependent writes across two disks: no checkpoint of a group may hold write B
 * on the second disk without write A on the first, which was acknowledged
 * before B was sent. Every checkpoint's delta goes to a replica image, and the
 * image is judged whole after each.
 *
 * TIDEMARK_SOAK=1 takes a thousand checkpoints.
 */
import t from "tap";
import { type Checkpoint, ConsistencyGroup, TidemarkError } from "#lib/index.js";
import { ChainedDisks, TARGET } from "../support/chained-disks.js";

const CHECKPOINTS = process.env["TIDEMARK_SOAK"] === "1" ? 1000 : 150;
const SABOTAGED_ROUNDS = 50;
const DRAIN_LIMIT_MS = 500;
const BOTH_IMAGES = [0, 1];

t.setTimeout(900_000);

/** The gate's time box may pass on a busy machine; nothing was cut then. */
async function insist(take: () => Promise<Checkpoint>): Promise<Checkpoint> {
  for (;;) {
    try {
      return await take();
    } catch (thrown) {
      if (!(thrown instanceof TidemarkError) || thrown.code !== "TIMED_OUT") throw thrown;
    }
  }
}

void t.test("no checkpoint of a group holds a write without the one it followed", async (t) => {
  const scene = await ChainedDisks.start();
  t.teardown(() => scene.close());
  const group = new ConsistencyGroup(scene.disks);
  const take = () => group.checkpoint(TARGET, { drainLimitMs: DRAIN_LIMIT_MS });
  let inFlightCount = 0;
  for (let round = 1; round <= CHECKPOINTS; round += 1) {
    const acked = scene.progress("acked");
    const checkpoint = await insist(take);
    const issued = scene.progress("issued");
    if (checkpoint.cut.requestsInFlight > 0) inFlightCount += 1;
    await scene.apply(checkpoint, BOTH_IMAGES);
    const faults = scene.judge(acked, issued);
    if (faults.length > 0) t.fail(`checkpoint ${round}`, { faults: faults.slice(0, 10) });
  }
  t.comment(
    `${CHECKPOINTS} checkpoints, ${inFlightCount} with writes in flight, ${scene.writeCount} writes`,
  );
  t.ok(inFlightCount >= CHECKPOINTS * 0.9, `${inFlightCount} were taken with writes in flight`);

  await scene.quiesce();
  await scene.apply(await insist(take), BOTH_IMAGES);
  for (const [index, disk] of scene.disks.entries()) {
    const content = Buffer.alloc(disk.sizeBytes);
    await disk.read(0, content);
    t.ok(scene.images[index]?.equals(content), `at rest the replica equals disk ${index}`);
  }
});

void t.test("checkpoints of each disk by itself are caught", async (t) => {
  const scene = await ChainedDisks.start();
  t.teardown(() => scene.close());
  let faults: string[] = [];
  for (let round = 0; round < SABOTAGED_ROUNDS && faults.length === 0; round += 1) {
    const acked = scene.progress("acked");
    for (const [index, disk] of scene.disks.entries()) {
      const take = () => disk.checkpoint(TARGET, { drainLimitMs: DRAIN_LIMIT_MS });
      await scene.apply(await insist(take), [index]);
    }
    faults = scene
      .judge(acked, scene.progress("issued"))
      .filter((fault) => fault.includes("without its A"));
  }
  t.not(faults.length, 0, "the oracle says so");
});

void t.test("a record that does not arrive is caught", async (t) => {
  const scene = await ChainedDisks.start();
  t.teardown(() => scene.close());
  const group = new ConsistencyGroup(scene.disks);
  let faults: string[] = [];
  for (let round = 0; round < SABOTAGED_ROUNDS && faults.length === 0; round += 1) {
    const acked = scene.progress("acked");
    const checkpoint = await insist(() =>
      group.checkpoint(TARGET, { drainLimitMs: DRAIN_LIMIT_MS }),
    );
    let recordCount = 0;
    await scene.apply(checkpoint, BOTH_IMAGES, () => {
      recordCount += 1;
      return recordCount !== 3;
    });
    faults = scene.judge(acked, scene.progress("issued"));
  }
  t.not(faults.length, 0, "the oracle says so");
});
