import t from "tap";
import { TidemarkError } from "#lib/model/errors.js";
import type { Priority } from "#lib/model/relationship-settings.js";
import { HostTurns } from "#lib/replication/host-turns.js";
import { WorkTurns } from "#lib/replication/work-turns.js";
import { settle, VirtualClock } from "./simulation/virtual-clock.js";

const never = new AbortController().signal;
const as = (key: string, priority: Priority = "normal") => ({ key, priority: () => priority });

void t.test("not more at once than allowed; the limit may change", async (t) => {
  const clock = new VirtualClock();
  let limit = 2;
  const turns = new WorkTurns(() => limit);
  let inside = 0;
  let most = 0;
  const work = async () => {
    inside += 1;
    most = Math.max(most, inside);
    await clock.sleep(10);
    inside -= 1;
  };
  const all = Promise.all(Array.from({ length: 10 }, (_, i) => turns.run(as(`${i}`), never, work)));
  await clock.run(15);
  t.equal(most, 2);
  limit = 5;
  turns.check();
  await settle();
  t.equal(inside, 5);
  await clock.run(100);
  await all;
  t.same([inside, most], [0, 5]);
});

void t.test("those with one key enter together, and count once", async (t) => {
  const clock = new VirtualClock();
  const turns = new WorkTurns(() => 1);
  const met: string[] = [];
  let arrived = 0;
  let isMet = false;
  const meet = (name: string) => async () => {
    arrived += 1;
    if (arrived === 3) isMet = true;
    while (!isMet) await clock.sleep(1);
    met.push(name);
  };
  const hold = turns.run(as("other"), never, () => clock.sleep(10));
  const members = ["a", "b", "c"].map((name) => turns.run(as("group"), never, meet(name)));
  const after = turns.run(as("last"), never, async () => met.push("last"));
  await clock.run(100);
  await Promise.all([hold, ...members, after]);
  t.same(met.slice(0, 3).sort(), ["a", "b", "c"]);
  t.equal(met[3], "last");
});

void t.test("who comes to those who are inside already does not queue up", async (t) => {
  const clock = new VirtualClock();
  const turns = new WorkTurns(() => 1);
  const order: string[] = [];
  const inside = turns.run(as("group"), never, () => clock.sleep(100));
  const other = turns.run(as("other"), never, async () => order.push("other"));
  const late = turns.run(as("group"), never, async () => order.push("late"));
  await clock.run(200);
  await Promise.all([inside, other, late]);
  t.same(order, ["late", "other"]);
});

void t.test("a failure frees the place; who gives up waiting leaves none", async (t) => {
  const clock = new VirtualClock();
  const turns = new WorkTurns(() => 1);
  const failing = turns.run(as("a"), never, async () => {
    await clock.sleep(10);
    throw new TidemarkError("IO_ERROR", "no");
  });
  failing.catch(() => {});
  const stop = new AbortController();
  const waiting = turns.run(as("b"), stop.signal, async () => t.fail("it gave up"));
  const next = turns.run(as("c"), never, async () => "in");
  await settle();
  stop.abort(new Error("enough"));
  await t.rejects(waiting, { message: "enough" });
  await clock.run(20);
  await t.rejects(failing, { code: "IO_ERROR" });
  t.equal(await next, "in");
  await t.rejects(
    turns.run(as("d"), stop.signal, async () => {}),
    { message: "enough" },
  );
});

void t.test("turns go by priority, and nobody waits for ever", async (t) => {
  const clock = new VirtualClock();
  const turns = new WorkTurns(() => 1);
  const done = { high: 0, low: 0 };
  const loop = async (key: "high" | "low", index: number) => {
    for (;;) {
      await turns.run(as(`${key} ${index}`, key), never, () => clock.sleep(1));
      done[key] += 1;
    }
  };
  for (let index = 0; index < 3; index += 1) {
    void loop("high", index);
    void loop("low", index);
  }
  await clock.run(3400);
  t.ok(Math.abs(done.high / done.low - 16) < 1, `${done.high} to ${done.low}`);
});

void t.test("a replica that does not answer holds up no other's relationships", async (t) => {
  let limit = 1;
  const turns = new HostTurns({
    transfers: () => ({ parallelCycles: limit, parallelCopies: limit }),
  });
  void turns.at("https://dead").copies.run(as("a"), never, () => new Promise(() => {}));
  const queued = turns.at("https://dead").copies.run(as("b"), never, async () => "in");
  t.equal(await turns.at("https://alive").copies.run(as("c"), never, async () => "in"), "in");
  limit = 2;
  turns.check();
  t.equal(await queued, "in");
});
