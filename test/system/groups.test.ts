/** A consistency group between real hosts, by the command line's own calls. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import {
  contentOfPoint,
  eventually,
  Guest,
  type Pair,
  startPair,
} from "../support/loopback-host.js";

t.setTimeout(300_000);

class Scene {
  readonly pair: Pair;
  readonly guests: readonly Guest[];

  private constructor(pair: Pair, guests: readonly Guest[]) {
    this.pair = pair;
    this.guests = guests;
  }

  /** Two VMs of the group, with a cut that has a point of both. */
  static async start(t: Test): Promise<Scene> {
    const directory = await mkdtemp(join(tmpdir(), "tidemark-groups-"));
    t.teardown(() => rm(directory, { recursive: true, force: true }));
    const pair = await startPair(t, directory);
    const guests = [await Guest.make(directory, "web"), await Guest.make(directory, "db")];
    t.teardown(() => guests.forEach((guest) => guest.disconnect()));
    const scene = new Scene(pair, guests);
    for (const guest of guests) {
      await guest.enable(pair.primary, pair.replicaUrl);
      await pair.primary.api.call("vmGroup", { group: "shop" }, { vm: guest.name });
    }
    await eventually("a complete cut", () => scene.newestComplete());
    return scene;
  }

  cuts() {
    return this.pair.replica.api.call("groupPointList", {}, { group: "shop" });
  }

  async newestComplete() {
    return (await this.cuts()).findLast((cut) => cut.isComplete);
  }

  /** Whether the points of the newest complete cut hold what the guests were acknowledged. */
  async isReplicated(): Promise<boolean> {
    const { replica } = this.pair;
    const cut = await this.newestComplete();
    for (const guest of this.guests) {
      const { vmId } = await replica.vm(guest.name);
      const pointId = cut?.points.find((point) => point.vmId === vmId)?.pointId ?? "";
      const content = await contentOfPoint(replica, guest.name, pointId);
      if (!content.equals(guest.content)) return false;
    }
    return cut?.points.length === this.guests.length;
  }
}

void t.test("two VMs of a group have points of one cut, on the replica by name", async (t) => {
  const scene = await Scene.start(t);
  const { primary } = scene.pair;
  for (const guest of scene.guests) await guest.write(8192, Buffer.alloc(4096, guest.name));
  t.ok(await eventually("a complete cut with the writes of both", () => scene.isReplicated()));

  const [group] = await primary.api.call("groupList", {});
  t.match(group, { name: "shop", vmIds: { length: 2 } });
  t.ok((group?.pauses.count ?? 0) >= 2);
  t.ok((group?.pauses.maxNs ?? 0) > 0);
  const { relationship } = await primary.vm("web");
  t.equal(relationship?.settings.group, "shop");
  t.ok((relationship?.pauses.count ?? 0) >= (group?.pauses.count ?? 0));

  await primary.api.call("vmSuspend", {}, { vm: "db" });
  const sinceMs = Date.now();
  await scene.guests[0]?.write(0, Buffer.alloc(4096, 1));
  const incomplete = await eventually("a cut without db", async () =>
    (await scene.cuts()).find((cut) => cut.takenAtMs > sinceMs),
  );
  t.notOk(incomplete.isComplete, "it says what it lacks");

  await primary.api.call("vmGroup", { group: null }, { vm: "db" });
  t.equal((await primary.api.call("groupList", {}))[0]?.vmIds.length, 1);
});
