/** Failovers of a whole consistency group between two real hosts, through the command line. */
import { randomBytes } from "node:crypto";
import t, { type Test } from "tap";
import { GroupScene } from "../support/group-scene.js";
import { BLOCK, contentOf, refused, runsOn, said } from "../support/host-orders.js";
import { eventually, type Guest } from "../support/loopback-host.js";

t.setTimeout(300_000);
const scene = await GroupScene.start(t);
const { guests } = scene;
const { primary, replica } = scene.pair;

/** What both VMs are served with at the replica. */
async function runsHereWith(t: Test, contents: ReadonlyMap<Guest, Buffer>): Promise<void> {
  for (const [{ name }, content] of contents) {
    const vm = await runsOn(replica, name);
    t.ok((await contentOf(vm)).equals(content), `${name} byte for byte`);
  }
}

/** Both write, and a cut has it. */
async function nextCut(): Promise<{ cutNumber: number; contents: Map<Guest, Buffer> }> {
  for (const guest of guests) await guest.write(4 * BLOCK, randomBytes(BLOCK));
  await eventually("a complete cut with the writes of both", () => scene.isReplicated());
  const cut = await scene.newestComplete();
  const contents = new Map(guests.map((guest) => [guest, Buffer.from(guest.content)]));
  return { cutNumber: cut?.cutNumber ?? 0, contents };
}

async function statesAre(state: string): Promise<void> {
  for (const { name } of guests) {
    await eventually(`${name} ${state}`, async () => {
      return (await primary.vm(name)).relationship?.state === state;
    });
  }
}

void t.test("one cut for all, also when half of it was done before a crash", async (t) => {
  const older = await nextCut();
  const newer = await nextCut();
  const cut = (await scene.cuts()).find(({ cutNumber }) => cutNumber === older.cutNumber);
  const web = await replica.vm("web");
  // What a crash between two members leaves.
  const pointId = cut?.points.find(({ vmId }) => vmId === web.vmId)?.pointId ?? "";
  await replica.api.call("failover", { pointId, force: true }, { vm: "web" });
  await replica.stop("SIGKILL");
  await replica.start();

  const other = String(newer.cutNumber);
  const failover = ["group", "failover", "shop", "--force"];
  const conflict = await refused(t, replica, ...failover, "--cut", other);
  t.match(conflict, /because web was failed over to another point already.*CONFLICT/s);
  t.equal((await replica.vm("db")).role, "replica", "and nothing was done");
  const out = await said(t, replica, ...failover);
  t.match(out, /^Group shop runs here now, from cut \d+ of/);
  t.match(out, /^web +\(done before\) +vda/m);
  t.match(out, /^db +at most .*vda/m);
  await runsHereWith(t, older.contents);

  const again = await replica.api.call("groupFailover", {}, { group: "shop" });
  t.same([...new Set(again.members.map(({ outcome }) => outcome))], ["done before"]);
  t.match(await refused(t, replica, "group", "failover", "shop", "--cut", "999999"), /NOT_FOUND/);
  await statesAre("failed-over");
});

void t.test("cancelled, the group goes on where it was", async (t) => {
  const out = await said(t, replica, "group", "cancel-failover", "shop");
  t.match(out, /web is given back[^]*db is given back|db is given back[^]*web is given back/);
  t.match(
    await refused(t, replica, "group", "cancel-failover", "shop"),
    /none of its VMs.*CONFLICT/s,
  );
  t.match(
    await refused(t, replica, "group", "commit-failover", "shop", "--yes"),
    /does not run here/,
  );
  for (const guest of guests) {
    guest.disconnect();
    await primary.api.call("vmResume", {}, { vm: guest.name });
  }
  await statesAre("replicating");
});

void t.test("handed over and completed, nothing of the group is lost", async (t) => {
  for (const guest of guests) await guest.write(5 * BLOCK, randomBytes(BLOCK));
  const [first, second] = guests;
  first?.disconnect();
  const open = await eventually("the end of a connection", async () => {
    const text = await refused(t, primary, "group", "planned-failover", "shop");
    return text.includes(`${second?.name ?? ""} has vda open`) && text;
  });
  t.match(open, /IN_USE/);
  await statesAre("replicating");
  const out = await said(t, primary, "group", "planned-failover", "shop", "--force");
  t.match(out, /web runs at its replica[^]*db runs|db runs at its replica[^]*web runs/);
  second?.disconnect();
  const contents = new Map(guests.map((guest) => [guest, guest.content]));
  await runsHereWith(t, contents);

  const asked = await said(t, replica, "group", "commit-failover", "shop");
  t.match(asked, /gives up all recovery points of 2 VMs of group shop/);
  // One of them alone is what a crash between the two leaves.
  await replica.api.call("failoverCommit", {}, { vm: "web" });
  t.match(await said(t, replica, "group", "commit-failover", "shop", "--yes"), /db stays here/);
  await runsHereWith(t, contents);
  t.same(await scene.cuts(), [], "its points are given up");
});
