/**
 * A planned failover whose questions, or their answers, are lost, each at every place:
 * one host has the VM in the end, with all that it held, and no other ever wrote beside it.
 */
import t, { type Test } from "tap";
import { TidemarkError } from "#lib/model/errors.js";
import { presentEntry } from "#lib/model/lineage.js";
import type { ReplicaEndpoint } from "#lib/model/replica-endpoint.js";
import { Bench } from "./bench.js";
import { VM_ID } from "./simulation/scene.js";

const A_WHILE_MS = 200_000;
const CALLS = ["status", "openDelta", "putSegment", "commit", "abandon", "succeed"] as const;
const MOST_CALLS = 40;

/** From the n-th call to the replica on, so many are lost: on their way there, or back. */
interface Loss {
  readonly from: number;
  readonly count: number;
  readonly way: "there" | "back";
}

/** Answers how many calls were made. */
function losing(bench: Bench, { from, count, way }: Loss): () => number {
  let callCount = 0;
  const lost = () => new TidemarkError("UNREACHABLE", "the line is down");
  const carry = async <T>(call: () => Promise<T>): Promise<T> => {
    callCount += 1;
    const isLost = callCount >= from && callCount < from + count;
    if (isLost && way === "there") throw lost();
    const answer = await call();
    if (isLost) throw lost();
    return answer;
  };
  const { replica, endpointParts } = bench;
  for (const name of CALLS) {
    const call = replica[name].bind(replica) as (...args: unknown[]) => Promise<unknown>;
    const lossy = (...args: unknown[]) => carry(() => call(...args));
    Object.assign(endpointParts, { [name]: lossy } satisfies Partial<
      Record<keyof ReplicaEndpoint, unknown>
    >);
  }
  return () => callCount;
}

/** The guest's, which comes while the disks are being taken away. */
function lastWrite(bench: Bench): void {
  let isWritten = false;
  bench.onServed = async (isServed) => {
    if (!isServed && !isWritten) bench.writeBlock(5, 77);
    isWritten = true;
  };
}

async function isWhole(t: Test, bench: Bench, what: string): Promise<void> {
  const { lineage = [] } = await bench.replica.status(VM_ID);
  const present = presentEntry(lineage);
  const { state } = await bench.status();
  const isThere = present.holderId === present.generation.id && lineage.length > 1;
  t.equal(bench.isServed, !isThere, `${what}: one side has it`);
  t.equal(state, isThere ? "failed-over" : "replicating", what);
  t.ok(await bench.isReplicaEqual(), `${what}: nothing is lost`);
}

for (const way of ["there", "back"] as const) {
  for (const count of [1, 3]) {
    void t.test(`G7: ${count} lost on the way ${way}, at every call`, async (t) => {
      let isPast = false;
      for (let from = 1; !isPast; from += 1) {
        const bench = await Bench.replicating();
        bench.writeBlock(3, from);
        const callCount = losing(bench, { from, count, way });
        lastWrite(bench);
        await bench.engine.handOver(VM_ID).catch(() => undefined);
        await bench.clock.run(A_WHILE_MS);
        await isWhole(t, bench, `call ${from}`);
        isPast = from > callCount();
        if (from > MOST_CALLS) throw new Error("it asks without end");
      }
    });
  }
}

void t.test("G6: taken back at every call, with its answer lost: one side has it", async (t) => {
  const ends = new Set<string>();
  for (let from = 1; from <= 12; from += 1) {
    const bench = await Bench.replicating();
    bench.writeBlock(3, from);
    losing(bench, { from, count: 2, way: "back" });
    await bench.engine.handOver(VM_ID).catch(() => undefined);
    await bench.clock.run(10);
    await bench.engine.takeBack(VM_ID).catch(() => undefined);
    await bench.clock.run(A_WHILE_MS);
    await isWhole(t, bench, `call ${from}`);
    ends.add((await bench.status()).state);
  }
  t.same([...ends].sort(), ["failed-over", "replicating"], "either may be the end");
});
