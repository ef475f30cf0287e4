import { randomUUID } from "node:crypto";
import t from "tap";
import { memorySegmentSinks } from "#lib/model/memory-segment-sink.js";
import { MemoryReplica } from "#lib/model/memory-replica.js";
import { replicaEndpointContract } from "../contracts/replica-endpoint.js";
import { decodeSegment, encodeSegment, newDeltaId } from "../contracts/segment-bytes.js";

replicaEndpointContract(t, "in memory", async () => {
  const endpoint = new MemoryReplica(decodeSegment);
  return {
    endpoint,
    readPoint: async (vmId, pointId, diskIndex) => endpoint.contentOf(vmId, pointId, diskIndex),
  };
});

void t.test("a slot of a superseded attempt does not count, whatever arrived in it", async (t) => {
  const replica = new MemoryReplica(decodeSegment);
  const disk = { diskId: randomUUID(), name: "vda", sizeBytes: 65536, granularityBytes: 4096 };
  const vm = { vmId: randomUUID(), name: "guest", disks: [disk] };
  const generation = { number: 1, id: randomUUID() };
  await replica.enable(vm, generation);
  const deltaId = newDeltaId();
  const header = {
    formatVersion: 1,
    deltaId,
    attempt: 1,
    kind: "point",
    vmId: vm.vmId,
    generation,
    parentPointId: null,
    stagingSessionId: null,
    cut: { sequence: 1, takenAtMs: 0, pauseNs: 0, requestsInFlight: 0, consistency: "crash" },
    disks: vm.disks,
    segmentCount: 1,
  } as const;
  await replica.openDelta(header);
  const request = { vmId: vm.vmId, deltaId, attempt: 1, segmentIndex: 0, contentBytes: 4096 };
  const slot = await replica.reserveSegment(request);
  const sink = await memorySegmentSinks(decodeSegment)(slot);
  const records = [{ offset: 0, length: 4096, data: Buffer.alloc(4096, 1) }];
  const segment = { deltaId, diskIndex: 0, segmentIndex: 0, granularity: 4096, records };
  await sink.write(encodeSegment(segment));
  const receipt = { ...(await sink.finish()), wireBytes: 1 };
  t.same(await replica.openDelta({ ...header, attempt: 2 }), []);
  await t.rejects(replica.completeSegment(slot, receipt), { code: "NOT_FOUND" });
  await t.rejects(replica.reserveSegment(request), { code: "NOT_FOUND" });
  await t.rejects(replica.reserveSegment({ ...request, attempt: 2, segmentIndex: 1 }), {
    code: "INVALID_ARGUMENT",
  });
  const again = await replica.reserveSegment({ ...request, attempt: 2 });
  const wrong = { ...receipt, sha256: "00".repeat(32) };
  await t.rejects(replica.completeSegment(again, wrong), { code: /CORRUPT|TRUNCATED/ });
});
