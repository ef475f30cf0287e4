import t from "tap";
import { Flow } from "#lib/model/fair-queue.js";
import type { Priority } from "#lib/model/relationship-settings.js";
import { burstBytes } from "#lib/transport/token-bucket.js";
import { TransferTurns } from "#lib/transport/transfer-turns.js";
import { Random } from "../replication/simulation/random.js";
import { settle, VirtualClock } from "../replication/simulation/virtual-clock.js";

const KIB = 1024;
const MIB = 1024 * KIB;

interface Sent {
  readonly atMs: number;
  readonly bytes: number;
}

function turnsAt(
  clock: VirtualClock,
  bytesPerSecond: () => number | null,
  parallelCount = () => 4,
): TransferTurns {
  return new TransferTurns(clock, { bytesPerSecond, parallelCount });
}

const newFlow = (priority: Priority = "normal") => new Flow(() => priority);

/** Sends claims one after the other for as long as the clock is run. */
function sendEndlessly(
  clock: VirtualClock,
  turns: TransferTurns,
  flow: Flow,
  bytesOf: () => { claim: number; actual: number },
  sent: Sent[],
): AbortController {
  const stop = new AbortController();
  const loop = async () => {
    for (;;) {
      const { claim, actual } = bytesOf();
      const permit = await turns.admit(flow, claim, stop.signal);
      await clock.sleep(1);
      sent.push({ atMs: clock.monotonicMs(), bytes: actual });
      permit.settle(actual);
    }
  };
  loop().catch(() => {});
  return stop;
}

const total = (sent: readonly Sent[]) => sent.reduce((sum, { bytes }) => sum + bytes, 0);

void t.test("never more than rate * t and a burst, and not much less, for any sizes", async (t) => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const random = new Random(seed);
    const clock = new VirtualClock();
    const rate = random.pick([100 * KIB, 1 * MIB, 20 * MIB]);
    const turns = turnsAt(clock, () => rate);
    const largest = burstBytes(rate);
    const sent: Sent[] = [];
    const bytesOf = () => {
      const claim = 1 + random.below(largest);
      return { claim, actual: random.chance(0.5) ? claim : Math.ceil(claim / 3) };
    };
    for (let lane = 0; lane < 4; lane += 1) {
      sendEndlessly(clock, turns, newFlow(), bytesOf, sent);
    }
    await clock.run(30_000);
    for (const [first, { atMs: fromMs }] of sent.entries()) {
      let bytes = 0;
      for (const { atMs, bytes: each } of sent.slice(first)) {
        bytes += each;
        // One more claim in flight at the window's begin may have been admitted before it.
        const most = (rate * (atMs - fromMs + 4)) / 1000 + 2 * burstBytes(rate);
        if (bytes > most) t.fail(`seed ${seed}: ${bytes} > ${most} in ${atMs - fromMs} ms`);
      }
    }
    t.ok(
      total(sent) <= rate * 30 + burstBytes(rate),
      `seed ${seed}: ${total(sent)} of ${rate * 30}`,
    );
    t.ok(total(sent) > 0.9 * rate * 30, `seed ${seed}: ${total(sent)} of ${rate * 30} is used`);
  }
});

void t.test("another rate holds from its first moment, both ways", async (t) => {
  const clock = new VirtualClock();
  let rate: number | null = 1 * MIB;
  const turns = turnsAt(clock, () => rate);
  const sent: Sent[] = [];
  const claim = 256 * KIB;
  sendEndlessly(clock, turns, newFlow(), () => ({ claim, actual: claim }), sent);
  const within = async (ms: number) => {
    sent.length = 0;
    await clock.run(ms);
    return total(sent);
  };
  t.ok((await within(10_000)) >= 10 * MIB);
  rate = 4 * MIB;
  const faster = await within(10_000);
  t.ok(faster > 38 * MIB && faster <= 42 * MIB + burstBytes(4 * MIB), `${faster}`);
  rate = 512 * KIB;
  const slower = await within(10_000);
  t.ok(slower > 4.5 * MIB && slower <= 5 * MIB + burstBytes(4 * MIB), `${slower}`);
  rate = null;
  t.ok((await within(1000)) > 100 * MIB, "no limit any more");
});

void t.test("a claim above the burst waits for a full bucket, and its debt is paid", async (t) => {
  const clock = new VirtualClock();
  const turns = turnsAt(clock, () => 1 * MIB);
  const admitted: number[] = [];
  for (let count = 0; count < 3; count += 1) {
    void turns.admit(newFlow(), 8 * MIB).then((permit) => {
      admitted.push(clock.monotonicMs());
      permit.settle(8 * MIB);
    });
  }
  await clock.run(60_000);
  t.same(
    admitted.map((atMs) => Math.round(atMs / 100)),
    [0, 80, 160],
  );
});

void t.test("segments at once are limited, and the limit may change", async (t) => {
  const clock = new VirtualClock();
  let limit = 2;
  const turns = turnsAt(
    clock,
    () => null,
    () => limit,
  );
  const permits: { settle(bytes: number): void }[] = [];
  for (let count = 0; count < 6; count += 1) {
    void turns.admit(newFlow(), 1).then((permit) => permits.push(permit));
  }
  await settle();
  t.equal(permits.length, 2);
  limit = 3;
  turns.check();
  await settle();
  t.equal(permits.length, 3);
  permits[0]?.settle(1);
  await settle();
  t.equal(permits.length, 4);
});

void t.test("a line is shared by priority, 16 to 4 to 1, and nobody starves", async (t) => {
  const clock = new VirtualClock();
  const turns = turnsAt(clock, () => 1 * MIB);
  const claim = 64 * KIB;
  const shares = (["high", "normal", "low"] as const).map((priority) => {
    const sent: Sent[] = [];
    const flow = newFlow(priority);
    for (let lane = 0; lane < 4; lane += 1) {
      sendEndlessly(clock, turns, flow, () => ({ claim, actual: claim }), sent);
    }
    return sent;
  });
  await clock.run(200_000);
  const [high = 0, normal = 0, low = 0] = shares.map(total);
  t.ok(Math.abs(high / normal - 4) < 0.2, `${high} to ${normal}`);
  t.ok(Math.abs(normal / low - 4) < 0.4, `${normal} to ${low}`);
});

void t.test("who rests earns no credit", async (t) => {
  const clock = new VirtualClock();
  const turns = turnsAt(clock, () => 1 * MIB);
  const claim = 64 * KIB;
  const [busy, late]: [Sent[], Sent[]] = [[], []];
  sendEndlessly(clock, turns, newFlow(), () => ({ claim, actual: claim }), busy);
  await clock.run(100_000);
  busy.length = 0;
  sendEndlessly(clock, turns, newFlow(), () => ({ claim, actual: claim }), late);
  await clock.run(100_000);
  t.ok(Math.abs(total(busy) / total(late) - 1) < 0.05, `${total(busy)} to ${total(late)}`);
});

void t.test("who gives up waiting leaves nothing behind", async (t) => {
  const clock = new VirtualClock();
  const turns = turnsAt(clock, () => 1 * MIB);
  const first = await turns.admit(newFlow(), 8 * MIB);
  first.settle(8 * MIB);
  const reason = new Error("enough");
  const stop = new AbortController();
  const waiting = turns.admit(newFlow(), 1 * MIB, stop.signal);
  const next = turns.admit(newFlow(), 1);
  await settle();
  stop.abort(reason);
  await t.rejects(waiting, reason);
  await t.rejects(turns.admit(newFlow(), 1, stop.signal), reason);
  await clock.run(10_000);
  (await next).settle(1);
  t.equal(clock.timerCount, 0);
});
