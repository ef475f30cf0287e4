/** What a host does about its replicas' recovery points and their room; nothing of it refuses a commit. */
import t from "tap";
import { Retention, type RetentionSettings } from "#lib/daemon/retention.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { DEFAULT_RETENTION } from "#lib/replica/retention-policy.js";
import { MemoryFiles } from "../replica/support/memory-files.js";
import { plainLayers } from "../replica/support/plain-layers.js";
import {
  BLOCK_COUNT,
  GRANULARITY,
  openPlainStore,
  readBlocks,
  Scene,
} from "../replica/support/scene.js";

const HOUR = 3_600_000;

/** A VM whose point n sets one block; an hour between them. */
class Filled {
  readonly scene = new Scene();
  readonly pointIds: string[] = [];
  readonly #store: ReplicaStore;
  #nowMs: { value: number };

  constructor(store: ReplicaStore, nowMs: { value: number }) {
    this.#store = store;
    this.#nowMs = nowMs;
  }

  async add(count: number): Promise<void> {
    await this.#store.enable(this.scene.vm, this.scene.generation);
    for (let i = 0; i < count; i += 1) {
      this.#nowMs.value += HOUR;
      const n = this.pointIds.length + 1;
      const header = this.scene.header({ parentPointId: this.pointIds.at(-1) ?? null });
      const cut = { ...header.cut, takenAtMs: this.#nowMs.value };
      const blocks = { 0: { [n % BLOCK_COUNT]: n } };
      const point = await this.scene.deliver(this.#store, { ...header, cut }, blocks);
      this.pointIds.push(point?.pointId ?? "");
    }
  }

  async left(): Promise<number[]> {
    return (await this.#store.points(this.scene.vm.vmId)).map(({ sequence }) => sequence);
  }
}

async function start(settings: Partial<RetentionSettings> = {}) {
  const files = new MemoryFiles();
  const nowMs = { value: 1_700_000_000_000 };
  const store = await openPlainStore("/store", files, plainLayers(files), () => nowMs.value);
  const warnings: string[] = [];
  const free = { bytes: () => Number.MAX_SAFE_INTEGER, totalBytes: Number.MAX_SAFE_INTEGER };
  const space = async () => ({ freeBytes: free.bytes(), totalBytes: free.totalBytes });
  /** Test failovers that want of room may end; each begins with its VM's id. */
  const tests = { open: [] as string[], mayEnd: true, onEnd: () => undefined as unknown };
  const retention = new Retention({
    store,
    settings: { ...DEFAULT_RETENTION, quotaBytes: null, ...settings },
    freeSpaceFloorBytes: 1000,
    space,
    checkIntervalMs: HOUR,
    tests: {
      describe: async (vmIds) => tests.open.filter((vmId) => vmIds.includes(vmId)).join(),
      endOldest: async (vmIds) => {
        const oldest = tests.open.findIndex((vmId) => vmIds.includes(vmId));
        if (oldest < 0 || !tests.mayEnd) return false;
        tests.open.splice(oldest, 1);
        tests.onEnd();
        return true;
      },
    },
    onWarning: (message) => warnings.push(message),
  });
  return { files, store, retention, warnings, free, tests, vm: () => new Filled(store, nowMs) };
}

void t.test("the policy holds, and what it gives up leaves its room", async (t) => {
  const { store, retention, warnings, vm } = await start();
  const filled = vm();
  await filled.add(200);
  await retention.check();
  const left = await filled.left();
  t.equal(left.length, 169, "a week of hours");
  t.equal(left.at(-1), 200);
  const { vmId } = filled.scene.vm;
  const [oldest] = await store.retention.list(vmId);
  t.equal(oldest?.storedBytes, 0, "the oldest is in the base");
  t.equal(await store.retention.merge(vmId), true, "nothing is left to merge");
  t.same(warnings, []);
});

void t.test("a VM's own settings hold for it alone, also after a restart", async (t) => {
  const { files, store, retention, vm } = await start();
  const [mine, other] = [vm(), vm()];
  await mine.add(20);
  await other.add(20);
  const { vmId } = mine.scene.vm;
  const tiers = [{ withinMs: 5 * HOUR, everyMs: 0 }];
  await store.retention.override(vmId, { tiers, quotaBytes: null });
  await retention.check();
  t.equal((await mine.left()).length, 6);
  t.equal((await other.left()).length, 20);
  await store.close();
  const again = await openPlainStore("/store", files);
  t.same(await again.retention.overrides(vmId), { tiers, quotaBytes: null });
  t.same(await again.retention.overrides(other.scene.vm.vmId), {});
});

void t.test("over its quota a VM is thinned, the oldest first, then it is said", async (t) => {
  const quotaBytes = BLOCK_COUNT * 2 * GRANULARITY + 10 * GRANULARITY;
  const { files, store, retention, warnings, vm } = await start({ quotaBytes });
  const filled = vm();
  await filled.add(40);
  const { vmId } = filled.scene.vm;
  const pinned = filled.pointIds[2] ?? "";
  await store.retention.edit(vmId, pinned, { isPinned: true });
  await retention.check();
  const left = await filled.left();
  t.ok(left.length > 2 && left.length < 40, `${left.length} points`);
  t.same([left[0], left.at(-1)], [3, 40], "what is pinned and the newest stay");
  t.ok((await store.retention.storedBytes(vmId)) <= quotaBytes);
  t.same(
    left.slice(1),
    left.slice(1).map((_, i) => 41 - (left.length - 1) + i),
    "the newest ones",
  );
  t.same([warnings, retention.warningsOf(vmId)], [[], []]);

  await store.retention.override(vmId, { quotaBytes: GRANULARITY });
  retention.wake();
  await retention.check();
  await retention.check();
  t.same(await filled.left(), [3, 40]);
  t.match(warnings, [/over its quota/], "once");
  t.match(retention.warningsOf(vmId), [/over its quota.*unpin/]);
  await filled.add(1);
  t.equal((await filled.left()).at(-1), 41, "replication goes on");

  await store.retention.override(vmId, {});
  await retention.check();
  t.same(retention.warningsOf(vmId), []);
  const content = await readBlocks(store, plainLayers(files), vmId, pinned);
  t.same(content[0], [0, 1, 2, 3, 0, 0, 0, 0], "what is pinned is as it was");
});

void t.test(
  "under the floor all VMs are thinned until there is room, and no further",
  async (t) => {
    const { store, retention, warnings, free, vm } = await start();
    const vms = [vm(), vm()];
    for (const one of vms) await one.add(60);
    const stored = async () => {
      const all = vms.map(({ scene }) => store.retention.storedBytes(scene.vm.vmId));
      return (await Promise.all(all)).reduce((sum, bytes) => sum + bytes, 0);
    };
    const before = await stored();
    let latest = before;
    free.bytes = () => 0;
    const room = 1000 + before - 40 * GRANULARITY;
    const keeper = new Retention({
      store,
      settings: { ...DEFAULT_RETENTION, quotaBytes: null },
      freeSpaceFloorBytes: 1000,
      space: async () => {
        latest = await stored();
        return { freeBytes: room - latest, totalBytes: free.totalBytes };
      },
      checkIntervalMs: HOUR,
      onWarning: (message) => warnings.push(message),
    });
    await keeper.check();
    t.ok(latest <= before - 40 * GRANULARITY, `${latest} of ${before} bytes are left`);
    for (const one of vms) t.ok((await one.left()).length > 5, "with some of the past of each");
    t.same(warnings, []);
    await retention.check();
    for (const one of vms) {
      t.same(await one.left(), [60], "when that does not help, only the newest is left");
      t.match(retention.warningsOf(one.scene.vm.vmId), [/under the floor/]);
    }
  },
);

void t.test(
  "for a floor as large as the file system nothing is given up, and it is said",
  async (t) => {
    const { retention, warnings, free, vm } = await start();
    const filled = vm();
    await filled.add(20);
    free.bytes = () => 900;
    free.totalBytes = 1000;
    for (let look = 0; look < 3; look += 1) await retention.check();
    t.equal((await filled.left()).length, 20);
    t.match(retention.warningsOf(filled.scene.vm.vmId), [/cannot be kept.*freeSpaceFloorBytes/]);
    t.equal(warnings.length, 1, "once");
    free.totalBytes = 1001;
    await retention.check();
    t.same(await filled.left(), [20], "one that can be kept is kept");
  },
);

void t.test(
  "T26: what a failover keeps from being merged is not given up for its room",
  async (t) => {
    const { store, retention, vm } = await start({ quotaBytes: GRANULARITY });
    const filled = vm();
    await filled.add(12);
    const { vmId } = filled.scene.vm;
    const failover = await store.openPoint(vmId, filled.pointIds.at(-1) ?? "", "lasting");
    await store.retention.delete(vmId, filled.pointIds[5] ?? "");
    await retention.check();
    t.equal((await filled.left()).length, 11);
    t.match(retention.warningsOf(vmId), [/over its quota.*close failovers/]);
    failover.release();
    await retention.check();
    t.same(await filled.left(), [12]);
  },
);

void t.test("want of room ends test failovers only where that is wanted, one by one", async (t) => {
  const { store, retention, warnings, free, tests, vm } = await start();
  const filled = vm();
  await filled.add(3);
  const { vmId } = filled.scene.vm;
  free.bytes = () => 1000 - tests.open.length + 1;
  tests.open.push(vmId, vmId, vmId);
  tests.mayEnd = false;
  await retention.check();
  t.equal(tests.open.length, 3);
  t.match(warnings, [new RegExp(`close failovers\\. ${vmId},${vmId}`)], "it says which are open");
  tests.mayEnd = true;
  await retention.check();
  t.equal(tests.open.length, 1, "no more than were needed");
  t.same(retention.warningsOf(vmId), []);
  free.bytes = () => (tests.open.length > 0 ? 0 : 1000);
  let pointsAtEnd = 0;
  await filled.add(2);
  tests.onEnd = async () => (pointsAtEnd = (await store.points(vmId)).length);
  await retention.check();
  t.equal(tests.open.length, 0);
  t.equal(pointsAtEnd, 1, "all that could be given up went before");
});
