/** A consistency group between real hosts, by the command line's own calls. */
import t, { type Test } from "tap";
import { GroupScene } from "../support/group-scene.js";
import { eventually } from "../support/loopback-host.js";
import { NbdClient } from "../support/nbd-client.js";

t.setTimeout(300_000);

/** All of a cut is open, none of what is written to it stays, one order ends it. */
async function testTogether(t: Test, { pair, guests }: GroupScene): Promise<void> {
  const { api } = pair.replica;
  const group = { group: "shop" };
  const opened = await api.call("groupTestFailover", {}, group);
  t.equal(opened.tests.length, guests.length);
  for (const guest of guests) {
    const { vmId } = await pair.replica.vm(guest.name);
    const test = opened.tests.find((one) => one.vmId === vmId);
    t.equal(test?.point.group?.name, "shop");
    const client = await NbdClient.connect(test?.disks[0]?.uri ?? "");
    t.ok((await client.read(0, client.sizeBytes)).equals(guest.content), "as the guest wrote it");
    await client.write(8192, Buffer.alloc(4096, 0x55));
    client.close();
  }
  const older = await api.call("groupTestFailover", { cutNumber: opened.cutNumber }, group);
  const [first] = older.tests;
  const again = await NbdClient.connect(first?.disks[0]?.uri ?? "");
  t.notOk(
    (await again.read(8192, 4096)).equals(Buffer.alloc(4096, 0x55)),
    "a second test is apart",
  );
  again.close();
  t.equal((await api.call("groupTestFailoverList", {}, group)).length, 2);
  for (const { testId } of [opened, older]) await api.call("exportClose", {}, { export: testId });
  t.same(await api.call("groupTestFailoverList", {}, group), []);
  const none = api.call("groupTestFailover", { cutNumber: 999_999 }, group);
  await t.rejects(none, { code: "NOT_FOUND" });
}

void t.test("two VMs of a group have points of one cut, on the replica by name", async (t) => {
  const scene = await GroupScene.start(t);
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

  await testTogether(t, scene);

  await primary.api.call("vmSuspend", {}, { vm: "db" });
  const sinceMs = Date.now();
  await scene.guests[0]?.write(0, Buffer.alloc(4096, 1));
  const incomplete = await eventually("a cut without db", async () =>
    (await scene.cuts()).find((cut) => cut.takenAtMs > sinceMs),
  );
  t.notOk(incomplete.isComplete, "it says what it lacks");
  const { cutNumber } = incomplete;
  const alone = scene.pair.replica.api.call("groupTestFailover", { cutNumber }, { group: "shop" });
  await t.rejects(alone, { code: "CONFLICT", message: /it has no point of db here/ });

  await primary.api.call("vmGroup", { group: null }, { vm: "db" });
  t.equal((await primary.api.call("groupList", {}))[0]?.vmIds.length, 1);
});
