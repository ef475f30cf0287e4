/**
 * What every ReplicaEndpoint does. Run it on each implementation:
 * the one in memory, the replica store, the client over the network.
 */
import { randomUUID } from "node:crypto";
import type { Test } from "tap";
import { MAX_HASHED_BYTES } from "#lib/model/block-hashes.js";
import type { ErrorCode } from "#lib/model/errors.js";
import { DISKS_CONTRACT } from "./replica-disks.js";
import { EXTENSION_CONTRACT } from "./replica-extension.js";
import { GROUP_CONTRACT } from "./replica-groups.js";
import { LINEAGE_CONTRACT } from "./replica-lineage.js";
import {
  type EndpointUnderTest,
  GRANULARITY,
  refused,
  ReplicaScene,
  sha256,
} from "./replica-scene.js";
import { TAKEOVER_CONTRACT } from "./replica-takeover.js";
import { deltaDigest, type PlainSegment, segmentSha256, segmentSource } from "./segment-bytes.js";

type MakeEndpoint = () => Promise<EndpointUnderTest>;

const SUPERSEDED: readonly ErrorCode[] = ["NOT_FOUND", "CONFLICT"];

export function replicaEndpointContract(t: Test, name: string, makeEndpoint: MakeEndpoint): void {
  for (const [title, rule] of Object.entries(RULES)) {
    void t.test(`${name}: ${title}`, async (tt) => {
      const made = await makeEndpoint();
      try {
        await rule(tt, new ReplicaScene(made));
      } finally {
        await made.close?.();
      }
    });
  }
}

const RULES: Record<string, (t: Test, scene: ReplicaScene) => Promise<void>> = {
  "enabling is idempotent and refuses another VM of the same id": async (t, scene) => {
    await scene.enable();
    const status = await scene.endpoint.enable(scene.vm, scene.generation);
    t.same(status.vm, scene.vm);
    t.same([status.head, status.pointCount, status.stagingSessionId], [null, 0, null]);
    t.same(status.generation, scene.generation);
    const other = { ...scene.vm, name: "another guest" };
    await refused(t, "CONFLICT", scene.endpoint.enable(other, scene.generation));
    const foreign = { number: 1, id: randomUUID() };
    const others = { ...scene.vm, disks: scene.vm.disks.slice(0, 1) };
    await refused(t, "FENCED", scene.endpoint.enable(others, foreign));
    const finer = scene.vm.disks.map((disk) => ({ ...disk, granularityBytes: 2 * GRANULARITY }));
    await refused(
      t,
      "CONFLICT",
      scene.endpoint.enable({ ...scene.vm, disks: finer }, scene.generation),
    );
    t.same((await scene.endpoint.status(scene.vm.vmId)).vm, scene.vm, "nothing was changed");
  },

  "an unknown VM is NOT_FOUND": async (t, scene) => {
    const { endpoint } = scene;
    const vmId = randomUUID();
    await refused(t, "NOT_FOUND", endpoint.status(vmId));
    await refused(t, "NOT_FOUND", endpoint.points(vmId));
    await refused(t, "NOT_FOUND", endpoint.openStaging(vmId, scene.generation));
    await refused(t, "NOT_FOUND", endpoint.openDelta(scene.header({ vmId })));
  },

  "a committed delta is a recovery point with its content": async (t, scene) => {
    await scene.enable();
    const header = scene.header();
    const point = await scene.deliver(header, { 1: 11, 2: 0, 5: 55 });
    t.match(point, {
      pointId: header.deltaId,
      sequence: 1,
      parentPointId: null,
      takenAtMs: header.cut.takenAtMs,
      validUntilMs: header.cut.takenAtMs,
      cutSequence: header.cut.sequence,
      consistency: "crash",
      changedBytes: 3 * GRANULARITY,
    });
    t.same(await scene.endpoint.points(scene.vm.vmId), [point]);
    t.same((await scene.endpoint.status(scene.vm.vmId)).head, point);
    await scene.expectBlocks(t, header.deltaId, { 0: 0, 1: 11, 2: 0, 5: 55 });
  },

  "a deleted VM is gone, may be deleted again, and may be enabled anew": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11 });
    const open = scene.header({ parentPointId: first.pointId });
    await scene.endpoint.openDelta(open);
    const { vmId } = scene.vm;
    await scene.endpoint.deleteVm(vmId, scene.generation);
    await scene.endpoint.deleteVm(vmId, scene.generation);
    await refused(t, "NOT_FOUND", scene.endpoint.status(vmId));
    await refused(t, "NOT_FOUND", scene.endpoint.points(vmId));
    await refused(t, "NOT_FOUND", scene.commit(open, "0".repeat(64)));
    await scene.enable();
    t.same((await scene.endpoint.status(vmId)).head, null);
    const again = await scene.point(null, { 2: 22 });
    await scene.expectBlocks(t, again.pointId, { 1: 0, 2: 22 });
  },

  "only who holds its generation deletes a VM": async (t, scene) => {
    await scene.enable();
    const point = await scene.point(null, { 1: 11 });
    const others = [
      { number: 1, id: randomUUID() },
      { ...scene.generation, number: 2 },
    ];
    for (const other of others) {
      await refused(t, "FENCED", scene.endpoint.deleteVm(scene.vm.vmId, other));
    }
    t.equal(await scene.headId(), point.pointId);
  },

  "a later point keeps the earlier one as it was": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11, 2: 22 });
    const second = await scene.point(first.pointId, { 2: 33, 1: 0 });
    t.same([second.sequence, second.parentPointId], [2, first.pointId]);
    await scene.expectBlocks(t, first.pointId, { 1: 11, 2: 22 });
    await scene.expectBlocks(t, second.pointId, { 1: 0, 2: 33 });
  },

  "a disk that was resized has its new size from the next point on": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11, 63: 22 });
    scene.resize(100);
    const second = await scene.point(first.pointId, { 64: 33, 99: 44 });
    await scene.expectBlocks(t, first.pointId, { 1: 11, 63: 22 });
    await scene.expectBlocks(t, second.pointId, { 1: 11, 63: 22, 64: 33, 98: 0, 99: 44 });
    t.same((await scene.endpoint.status(scene.vm.vmId)).vm?.disks, scene.vm.disks);
    scene.resize(40);
    const third = await scene.point(second.pointId, { 39: 66 });
    await scene.expectBlocks(t, second.pointId, { 1: 11, 63: 22, 99: 44 });
    await scene.expectBlocks(t, third.pointId, { 1: 11, 39: 66 });
    const sizes = await Promise.all(
      [first, second, third].map((point) => scene.sizeInBlocks(point.pointId)),
    );
    if (sizes[0] !== null) t.same(sizes, [64, 100, 40]);
    scene.resize(120);
    const status = await scene.endpoint.enable(scene.vm, scene.generation);
    t.same(status.vm?.disks, scene.vm.disks);
  },

  "an empty delta of a disk that was cut is a point, and the next one extends it": async (
    t,
    scene,
  ) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11, 63: 22 });
    scene.resize(40);
    const empty = async (parentPointId: string) => {
      const header = scene.header({ parentPointId, segmentCount: 0 });
      await scene.endpoint.openDelta(header);
      return scene.commit(header, deltaDigest([]));
    };
    const cut = await empty(first.pointId);
    t.equal(cut?.parentPointId, first.pointId);
    t.equal(await scene.headId(), cut?.pointId);
    const size = await scene.sizeInBlocks(cut?.pointId ?? "");
    if (size !== null) t.equal(size, 40);
    t.equal((await empty(cut?.pointId ?? ""))?.pointId, cut?.pointId, "extended, not another");
    await scene.expectBlocks(t, first.pointId, { 1: 11, 63: 22 });
    await scene.expectBlocks(t, cut?.pointId ?? "", { 1: 11, 39: 0 });
  },

  "where a disk ended at the head nothing compares equal": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11, 63: 22 });
    scene.resize(40);
    const { pointId } = await scene.point(first.pointId, { 39: 66 });
    const extents = [39 * GRANULARITY, GRANULARITY, 63 * GRANULARITY, GRANULARITY];
    const hashes = await scene.endpoint.blockHashes(scene.hashRequest(pointId, extents));
    t.same(Buffer.from(hashes.subarray(0, 32)), sha256(Buffer.alloc(GRANULARITY, 66)));
    t.same(Buffer.from(hashes.subarray(32)), Buffer.alloc(32), "unknown, not zeroes");
  },

  "a receipt says what arrived": async (t, scene) => {
    await scene.enable();
    const header = scene.header();
    const segment = scene.segment(header.deltaId, 0, { 3: 9, 4: 0, 6: 7 });
    await scene.endpoint.openDelta(header);
    const { wireBytes, ...receipt } = await scene.endpoint.putSegment(segmentSource(segment));
    t.same(receipt, {
      segmentIndex: 0,
      sha256: segmentSha256(segment),
      dataBytes: 2 * GRANULARITY,
      zeroBytes: GRANULARITY,
    });
    t.ok(wireBytes > 0);
  },

  "the short last block of a disk travels": async (t, scene) => {
    await scene.enable();
    const header = scene.header();
    const data = Buffer.alloc(GRANULARITY + 512, 0x5a);
    const records = [{ offset: 7 * GRANULARITY, length: data.length, data }];
    const base = { deltaId: header.deltaId, segmentIndex: 0, granularity: GRANULARITY };
    const segment: PlainSegment = { ...base, diskIndex: 1, records };
    await scene.endpoint.openDelta(header);
    await scene.endpoint.putSegment(segmentSource(segment));
    const point = await scene.commit(header, deltaDigest([segment]));
    t.equal(point?.changedBytes, data.length);
  },

  "an announced delta answers its durable segments when announced again": async (t, scene) => {
    await scene.enable();
    const header = scene.header({ segmentCount: 3 });
    const segments = [0, 1, 2].map((i) => scene.segment(header.deltaId, i, { [i]: i + 1 }));
    t.same(await scene.endpoint.openDelta(header), []);
    await scene.endpoint.putSegment(segmentSource(segments[2] as PlainSegment));
    const again = { ...header, attempt: 2 };
    const durable = await scene.endpoint.openDelta(again);
    t.same(
      durable.map(({ segmentIndex }) => segmentIndex),
      [2],
    );
    t.equal(durable[0]?.sha256, segmentSha256(segments[2] as PlainSegment));
    for (const segment of segments.slice(0, 2)) {
      await scene.endpoint.putSegment(segmentSource(segment));
    }
    const point = await scene.commit(again, deltaDigest(segments));
    t.equal(point?.pointId, header.deltaId);
    await scene.expectBlocks(t, header.deltaId, { 0: 1, 1: 2, 2: 3 });
  },

  "segments arrive in any order, several at once and repeated": async (t, scene) => {
    await scene.enable();
    const header = scene.header({ segmentCount: 4 });
    const segments = [0, 1, 2, 3].map((i) => scene.segment(header.deltaId, i, { [i]: i + 1 }));
    await scene.endpoint.openDelta(header);
    const order = [3, 1, 0, 2].map((i) => segmentSource(segments[i] as PlainSegment));
    const receipts = await Promise.all(order.map((s) => scene.endpoint.putSegment(s)));
    const repeated = await scene.endpoint.putSegment(order[0] as (typeof order)[0]);
    t.equal(repeated.sha256, receipts[0]?.sha256);
    await scene.commit(header, deltaDigest(segments));
    await scene.expectBlocks(t, header.deltaId, { 0: 1, 1: 2, 2: 3, 3: 4 });
  },

  "a newer delta supersedes an open one": async (t, scene) => {
    await scene.enable();
    const old = scene.header();
    const segment = scene.segment(old.deltaId, 0, { 1: 1 });
    await scene.endpoint.openDelta(old);
    await scene.endpoint.putSegment(segmentSource(segment));
    const newer = scene.header();
    await scene.endpoint.openDelta(newer);
    await refused(t, SUPERSEDED, scene.endpoint.putSegment(segmentSource(segment)));
    await refused(t, SUPERSEDED, scene.commit(old, deltaDigest([segment])));
    const point = await scene.deliver({ ...newer, attempt: 2 }, { 2: 2 });
    t.equal(await scene.headId(), point?.pointId);
    await scene.expectBlocks(t, newer.deltaId, { 1: 0, 2: 2 });
  },

  "an earlier attempt is refused once a later one is open": async (t, scene) => {
    await scene.enable();
    const first = scene.header();
    const second = { ...first, attempt: 2 };
    const segment = scene.segment(first.deltaId, 0, { 1: 1 });
    await scene.endpoint.openDelta(second);
    await refused(t, SUPERSEDED, scene.endpoint.openDelta(first));
    await scene.endpoint.putSegment(segmentSource(segment));
    await refused(t, SUPERSEDED, scene.commit(first, deltaDigest([segment])));
    t.equal(await scene.headId(), null);
    t.ok(await scene.commit(second, deltaDigest([segment])));
  },

  "a repeated commit answers the head and changes nothing": async (t, scene) => {
    await scene.enable();
    const header = scene.header();
    const point = await scene.deliver(header, { 1: 1 });
    const digest = deltaDigest([scene.segment(header.deltaId, 0, { 1: 1 })]);
    t.same(await scene.commit(header, digest), point);
    t.equal((await scene.endpoint.points(scene.vm.vmId)).length, 1);
  },

  "a commit with another digest is CORRUPT and makes no point": async (t, scene) => {
    await scene.enable();
    const header = scene.header();
    const segment = scene.segment(header.deltaId, 0, { 1: 1 });
    await scene.endpoint.openDelta(header);
    await scene.endpoint.putSegment(segmentSource(segment));
    await refused(t, "CORRUPT", scene.commit(header, "00".repeat(32)));
    t.equal(await scene.headId(), null);
    const point = await scene.point(null, { 1: 2 });
    t.equal(await scene.headId(), point.pointId);
  },

  "a commit with a segment missing makes no point": async (t, scene) => {
    await scene.enable();
    const header = scene.header({ segmentCount: 2 });
    const segment = scene.segment(header.deltaId, 0, { 1: 1 });
    await scene.endpoint.openDelta(header);
    await scene.endpoint.putSegment(segmentSource(segment));
    await refused(t, ["CORRUPT", "CONFLICT"], scene.commit(header, deltaDigest([segment])));
    t.same(await scene.endpoint.points(scene.vm.vmId), []);
  },

  "a damaged segment is refused and can be sent again": async (t, scene) => {
    await scene.enable();
    const header = scene.header();
    const segment = scene.segment(header.deltaId, 0, { 1: 1 });
    const whole = segmentSource(segment);
    const damaged = (damage: (bytes: Buffer) => Buffer) => ({
      ...whole,
      async *records() {
        const pieces: Uint8Array[] = [];
        for await (const piece of whole.records()) pieces.push(piece);
        yield damage(Buffer.concat(pieces));
      },
    });
    const flip = (bytes: Buffer) => {
      bytes.writeUInt8(bytes.readUInt8(100) ^ 1, 100);
      return bytes;
    };
    await scene.endpoint.openDelta(header);
    await refused(t, "CORRUPT", scene.endpoint.putSegment(damaged(flip)));
    const cut = damaged((bytes) => bytes.subarray(0, bytes.length - 30));
    await refused(t, ["TRUNCATED", "CORRUPT"], scene.endpoint.putSegment(cut));
    await scene.endpoint.putSegment(whole);
    t.ok(await scene.commit(header, deltaDigest([segment])));
  },

  "the head's blocks hash as their content, past the disk's end as nothing else does": async (
    t,
    scene,
  ) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 11, 2: 22 });
    const second = await scene.point(first.pointId, { 2: 33, 3: 0, 63: 44 });
    const blocks = scene.hashRequest(second.pointId, [
      0,
      4 * GRANULARITY,
      63 * GRANULARITY,
      10_000,
    ]);
    const expected = [0, 11, 33, 0, 44, 0].map((value) => sha256(Buffer.alloc(GRANULARITY, value)));
    expected[5] = expected[6] = Buffer.alloc(32);
    t.same(Buffer.from(await scene.endpoint.blockHashes(blocks)), Buffer.concat(expected));
    const wide = { ...blocks, blockBytes: 65536, extents: [GRANULARITY, 2 * GRANULARITY] };
    const pair = [11, 33].map((value) => Buffer.alloc(GRANULARITY, value));
    t.same(Buffer.from(await scene.endpoint.blockHashes(wide)), sha256(Buffer.concat(pair)));
    t.same((await scene.endpoint.blockHashes({ ...blocks, extents: [] })).length, 0);
  },

  "blocks are hashed of the head alone, of its generation, and not without bound": async (
    t,
    scene,
  ) => {
    await scene.enable();
    const { endpoint } = scene;
    const first = await scene.point(null, { 1: 11 });
    const fits = scene.hashRequest(first.pointId, [0, GRANULARITY]);
    const second = await scene.point(first.pointId, { 1: 22 });
    await refused(t, "PARENT_MISMATCH", endpoint.blockHashes(fits));
    const now = { ...fits, pointId: second.pointId };
    await refused(t, "NOT_FOUND", endpoint.blockHashes({ ...now, vmId: randomUUID() }));
    const generation = { number: 2, id: randomUUID() };
    await refused(t, "FENCED", endpoint.blockHashes({ ...now, generation }));
    for (const wrong of [
      { diskIndex: 2 },
      { extents: [0, MAX_HASHED_BYTES + 1] },
      { extents: [0, MAX_HASHED_BYTES], blockBytes: 512 },
      { extents: [0] },
      { extents: [-4096, 4096] },
      { extents: [0.5, 4096] },
      { blockBytes: 0 },
    ]) {
      await refused(t, "INVALID_ARGUMENT", endpoint.blockHashes({ ...now, ...wrong }));
    }
  },

  "a delta that does not follow the head is PARENT_MISMATCH": async (t, scene) => {
    await scene.enable();
    const foreign = scene.header({ parentPointId: randomUUID() });
    await refused(t, "PARENT_MISMATCH", scene.endpoint.openDelta(foreign));
    const first = await scene.point(null, { 1: 1 });
    await refused(t, "PARENT_MISMATCH", scene.endpoint.openDelta(scene.header()));
    t.equal(await scene.headId(), first.pointId);
  },

  "another generation is FENCED in each call that carries one": async (t, scene) => {
    await scene.enable();
    const mine = scene.header();
    const segment = scene.segment(mine.deltaId, 0, { 1: 1 });
    await scene.endpoint.openDelta(mine);
    await scene.endpoint.putSegment(segmentSource(segment));
    const { id } = scene.generation;
    for (const generation of [
      { number: 2, id: randomUUID() },
      { number: 2, id },
      { number: 1, id: randomUUID() },
    ]) {
      const { endpoint, vm } = scene;
      await refused(t, "FENCED", endpoint.enable(vm, generation));
      await refused(t, "FENCED", endpoint.openDelta(scene.header({ generation })));
      await refused(t, "FENCED", endpoint.openStaging(vm.vmId, generation));
      const digest = deltaDigest([segment]);
      await refused(t, "FENCED", scene.commit({ ...mine, generation }, digest));
    }
    t.ok(await scene.commit(mine, deltaDigest([segment])));
  },

  "staging is no recovery point until the closing point takes it in": async (t, scene) => {
    await scene.enable();
    const stagingSessionId = await scene.endpoint.openStaging(scene.vm.vmId, scene.generation);
    const pass = () => scene.header({ kind: "staging", stagingSessionId });
    t.equal(await scene.deliver(pass(), { 1: 11, 2: 22, 3: 33 }), null);
    t.equal(await scene.deliver(pass(), { 2: 23, 3: 0 }), null);
    const status = await scene.endpoint.status(scene.vm.vmId);
    t.same([status.head, status.stagingSessionId], [null, stagingSessionId]);
    t.same(await scene.endpoint.points(scene.vm.vmId), []);
    const closing = scene.header({ stagingSessionId });
    const point = await scene.deliver(closing, { 4: 44 });
    t.equal(point?.pointId, closing.deltaId);
    t.equal((await scene.endpoint.status(scene.vm.vmId)).stagingSessionId, null);
    await scene.expectBlocks(t, closing.deltaId, { 1: 11, 2: 23, 3: 0, 4: 44 });
  },

  "a closing point without changes of its own still takes staging in": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 1 });
    const stagingSessionId = await scene.endpoint.openStaging(scene.vm.vmId, scene.generation);
    const staged = { parentPointId: first.pointId, stagingSessionId };
    await scene.deliver(scene.header({ ...staged, kind: "staging" }), { 1: 2 });
    const closing = scene.header({ ...staged, segmentCount: 0 });
    await scene.endpoint.openDelta(closing);
    const point = await scene.commit(closing, deltaDigest([]));
    t.equal(point?.pointId, closing.deltaId);
    await scene.expectBlocks(t, first.pointId, { 1: 1 });
    await scene.expectBlocks(t, closing.deltaId, { 1: 2 });
  },

  "a repeated staging commit is accepted": async (t, scene) => {
    await scene.enable();
    const stagingSessionId = await scene.endpoint.openStaging(scene.vm.vmId, scene.generation);
    const header = scene.header({ kind: "staging", stagingSessionId });
    await scene.deliver(header, { 1: 1 });
    const digest = deltaDigest([scene.segment(header.deltaId, 0, { 1: 1 })]);
    t.equal(await scene.commit(header, digest), null);
  },

  "a newer staging session ends the earlier one": async (t, scene) => {
    await scene.enable();
    const { endpoint, vm, generation } = scene;
    const lost = await endpoint.openStaging(vm.vmId, generation);
    const pass = scene.header({ kind: "staging", stagingSessionId: lost });
    await scene.deliver(pass, { 1: 11 });
    const half = scene.header({ stagingSessionId: lost });
    const segment = scene.segment(half.deltaId, 0, { 2: 2 });
    await endpoint.openDelta(half);
    await endpoint.putSegment(segmentSource(segment));
    const fresh = await endpoint.openStaging(vm.vmId, generation);
    t.not(fresh, lost);
    const late = scene.commit(half, deltaDigest([segment]));
    await refused(t, ["STAGING_LOST", ...SUPERSEDED], late);
    const closing = scene.header({ stagingSessionId: lost });
    await refused(t, "STAGING_LOST", endpoint.openDelta(closing));
    const again = scene.header({ kind: "staging", stagingSessionId: lost });
    await refused(t, "STAGING_LOST", endpoint.openDelta(again));
    const point = await scene.deliver(scene.header({ stagingSessionId: fresh }), { 3: 33 });
    await scene.expectBlocks(t, point?.pointId ?? "", { 1: 0, 2: 0, 3: 33 });
  },

  "an empty delta extends the head's validity": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 1 });
    const empty = scene.header({ parentPointId: first.pointId, segmentCount: 0 });
    await scene.endpoint.openDelta(empty);
    const extended = await scene.commit(empty, deltaDigest([]));
    t.same(extended, { ...first, validUntilMs: empty.cut.takenAtMs });
    t.same(await scene.commit(empty, deltaDigest([])), extended, "also when repeated");
    t.same(await scene.endpoint.points(scene.vm.vmId), [extended]);
    const next = await scene.point(first.pointId, { 2: 2 });
    t.equal(next.sequence, 2);
  },

  "an empty delta that was cut at rest makes the head application-consistent": async (t, scene) => {
    await scene.enable();
    const first = await scene.point(null, { 1: 1 });
    for (const [consistency, expected] of [
      ["crash", "crash"],
      ["application", "application"],
      ["crash", "application"],
    ] as const) {
      const header = scene.header({ parentPointId: first.pointId, segmentCount: 0 });
      const empty = { ...header, cut: { ...header.cut, consistency } };
      await scene.endpoint.openDelta(empty);
      t.equal((await scene.commit(empty, deltaDigest([])))?.consistency, expected);
    }
    const points = await scene.endpoint.points(scene.vm.vmId);
    t.match(points, [{ pointId: first.pointId, consistency: "application" }]);
    t.equal(points.length, 1);
  },

  ...GROUP_CONTRACT,
  ...DISKS_CONTRACT,
  ...EXTENSION_CONTRACT,
  ...LINEAGE_CONTRACT,
  ...TAKEOVER_CONTRACT,

  "an empty delta without a head makes the first point": async (t, scene) => {
    await scene.enable();
    const empty = scene.header({ segmentCount: 0 });
    await scene.endpoint.openDelta(empty);
    const point = await scene.commit(empty, deltaDigest([]));
    t.equal(point?.pointId, empty.deltaId);
    await scene.expectBlocks(t, empty.deltaId, { 0: 0 });
  },

  "an abandoned delta is never committed": async (t, scene) => {
    await scene.enable();
    const header = scene.header();
    const segment = scene.segment(header.deltaId, 0, { 1: 1 });
    await scene.endpoint.openDelta(header);
    await scene.endpoint.putSegment(segmentSource(segment));
    await scene.endpoint.abandon(scene.vm.vmId, header.deltaId);
    await scene.endpoint.abandon(scene.vm.vmId, header.deltaId);
    await refused(t, SUPERSEDED, scene.commit(header, deltaDigest([segment])));
    t.equal(await scene.headId(), null);
    const point = await scene.point(null, { 1: 2 });
    t.equal(await scene.headId(), point.pointId);
  },

  "abandoning a committed delta leaves its point alone": async (t, scene) => {
    await scene.enable();
    const point = await scene.point(null, { 1: 1 });
    await scene.endpoint.abandon(scene.vm.vmId, point.pointId);
    t.same(await scene.endpoint.points(scene.vm.vmId), [point]);
  },
};
