/** What peers ask of a host that is starting: refused for the moment, and nothing is half done. */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import t from "tap";
import { WHILE_STARTING } from "#lib/daemon/while-starting.js";
import { firstEntry, successorOf } from "#lib/model/lineage.js";
import { ReplicaStore } from "#lib/replica/replica-store.js";
import { openSegmentSink } from "#lib/replica/segment-sink.js";
import { binding } from "#lib/tracking/binding.js";
import { scratchDirectory } from "../support/program.js";

const root = join(await scratchDirectory(t), "replica");
const store = await ReplicaStore.open({ root, native: binding, openSink: openSegmentSink });
t.teardown(() => store.close());
const diskId = randomUUID();
const disk = { diskId, name: "vda", sizeBytes: 1 << 20, granularityBytes: 4096 };
const vm = { vmId: randomUUID(), name: "web", disks: [disk] };
const known = { ...vm, vmId: randomUUID(), name: "db" };
const first = firstEntry({ number: 1, id: randomUUID() });
await store.enable(known, first.generation);
store.standBeside(WHILE_STARTING);
store.watchSuccessions(WHILE_STARTING);
const later = { code: "CONFLICT", retryable: true };

void t.test("T43: disks that come back are not taken before the host knows its VMs", async (t) => {
  await t.rejects(store.takeReturned({ vm, lineage: [first] }), later);
  await t.rejects(store.enable(vm, first.generation), later);
  const vmIds = (await store.listVms()).map(({ vmId }) => vmId);
  t.same(vmIds, [known.vmId], "and no replica was made of them");
});

void t.test("T43: a VM is not taken over before anybody could serve it", async (t) => {
  const { vmId } = known;
  const id = randomUUID();
  const rest = { forkPointId: null, holderId: id, cause: "unplanned-failover" } as const;
  const to = successorOf(first.generation, id, rest);
  await t.rejects(store.succeed({ vmId, from: first.generation, to }), later);
  t.same((await store.status(vmId)).lineage, [first]);
});
