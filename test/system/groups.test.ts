/** A consistency group between real hosts, by the command line's own calls. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { contentOfPoint, eventually, Guest, startPair } from "../support/loopback-host.js";

t.setTimeout(300_000);

void t.test("two VMs of a group have points of one cut, on the replica by name", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "tidemark-groups-"));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const { primary, replica, replicaUrl } = await startPair(t, directory);
  const guests = [await Guest.make(directory, "web"), await Guest.make(directory, "db")];
  t.teardown(() => guests.forEach((guest) => guest.disconnect()));
  for (const guest of guests) {
    await guest.enable(primary, replicaUrl);
    const status = await primary.api.call("vmGroup", { group: "shop" }, { vm: guest.name });
    t.equal(status.relationship?.settings.group, "shop");
  }
  const cuts = () => replica.api.call("groupPointList", {}, { group: "shop" });
  const complete = async (afterMs: number) =>
    (await cuts()).find((cut) => cut.isComplete && cut.takenAtMs > afterMs);
  await eventually("a complete cut", () => complete(0));

  for (const guest of guests) await guest.write(8192, Buffer.alloc(4096, guest.name));
  const found = await eventually("a cut with the writes", () => complete(Date.now() - 1));
  t.equal(found.points.length, 2);
  for (const guest of guests) {
    const { vmId } = await replica.vm(guest.name);
    const pointId = found.points.find((point) => point.vmId === vmId)?.pointId ?? "";
    t.ok((await contentOfPoint(replica, guest.name, pointId)).equals(guest.content), guest.name);
  }

  const [group] = await primary.api.call("groupList", {});
  t.match(group, { name: "shop", vmIds: { length: 2 } });
  t.ok((group?.pauses.count ?? 0) >= 2);
  t.ok((group?.pauses.maxNs ?? 0) > 0);
  const status = await primary.vm("web");
  t.ok((status.relationship?.pauses.count ?? 0) >= (group?.pauses.count ?? 0));

  await primary.api.call("vmSuspend", {}, { vm: "db" });
  const sinceMs = Date.now();
  await guests[0]?.write(0, Buffer.alloc(4096, 1));
  const incomplete = await eventually("a cut without db", async () =>
    (await cuts()).find((cut) => cut.takenAtMs > sinceMs),
  );
  t.notOk(incomplete.isComplete, "it says what it lacks");

  await primary.api.call("vmGroup", { group: null }, { vm: "db" });
  t.equal((await primary.api.call("groupList", {}))[0]?.vmIds.length, 1);
});
