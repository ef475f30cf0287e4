import t from "tap";
import type { SegmentReceipt } from "#lib/model/delta.js";
import { PacedSender } from "#lib/transport/paced-sender.js";
import type { SegmentJob } from "#lib/transport/segment-job.js";
import type { SegmentSender, SentSegment } from "#lib/transport/segment-sender.js";
import { burstBytes } from "#lib/transport/token-bucket.js";
import { TransferTurns } from "#lib/transport/transfer-turns.js";
import { settle, VirtualClock } from "../replication/simulation/virtual-clock.js";

const KIB = 1024;
const MIB = 1024 * KIB;

/** Lanes that take no time of their own, or as much as they are told. */
class CountingLanes implements SegmentSender {
  readonly #clock: VirtualClock;
  sentBytes = 0;
  underWay = 0;
  mostAtOnce = 0;
  segmentMs = 0;
  ratio = 1;
  failure: Error | null = null;

  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }

  probe(): never {
    throw new Error("nobody probes here");
  }

  async send({ plan }: SegmentJob, signal?: AbortSignal): Promise<SentSegment> {
    this.underWay += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.underWay);
    try {
      if (this.segmentMs > 0) await this.#clock.sleep(this.segmentMs, signal);
      if (this.failure !== null) throw this.failure;
      const wireBytes = Math.ceil(plan.contentBytes * this.ratio);
      this.sentBytes += wireBytes;
      return { receipt: { wireBytes } as SegmentReceipt, compressMs: 1, lineMs: 2 };
    } finally {
      this.underWay -= 1;
    }
  }
}

const job = (contentBytes: number) => ({ plan: { contentBytes } }) as SegmentJob;

class Scene {
  readonly clock = new VirtualClock();
  readonly lanes = new CountingLanes(this.clock);
  hostRate: number | null = null;
  parallelCount = 4;
  readonly host = new TransferTurns(this.clock, {
    bytesPerSecond: () => this.hostRate,
    parallelCount: () => Number.POSITIVE_INFINITY,
  });
  readonly places = this.newPlaces();

  newPlaces(): TransferTurns {
    return new TransferTurns(this.clock, {
      bytesPerSecond: () => null,
      parallelCount: () => this.parallelCount,
    });
  }

  sender(
    rate: () => number | null = () => null,
    places: TransferTurns = this.places,
    lanes: SegmentSender = this.lanes,
  ): PacedSender {
    return new PacedSender({
      inner: lanes,
      places,
      clock: this.clock,
      host: this.host,
      hostBytesPerSecond: () => this.hostRate,
      bytesPerSecond: rate,
      settings: () => ({ priority: "normal" }),
    });
  }

  /** Segments without end over so many lanes. */
  flood(sender: PacedSender, contentBytes: number, laneCount = 4): { sent: number } {
    const count = { sent: 0 };
    const lane = async () => {
      for (;;) {
        await sender.send(job(contentBytes));
        count.sent += contentBytes;
        if (this.lanes.segmentMs === 0) await this.clock.sleep(1);
      }
    };
    for (let index = 0; index < laneCount; index += 1) lane().catch(() => {});
    return count;
  }
}

void t.test("the wire's bytes count, not the content's, and the rate is used", async (t) => {
  for (const ratio of [1, 0.5, 0.1]) {
    const scene = new Scene();
    const rate = 2 * MIB;
    const sender = scene.sender(() => rate);
    scene.lanes.ratio = ratio;
    scene.flood(sender, sender.largestSegmentBytes());
    await scene.clock.run(60_000);
    const { sentBytes } = scene.lanes;
    t.ok(sentBytes <= 60 * rate + burstBytes(rate), `${ratio}: ${sentBytes / MIB} MiB`);
    t.ok(sentBytes > 0.9 * 60 * rate, `${ratio}: ${sentBytes / MIB} MiB`);
  }
});

void t.test("a throttled relationship holds up nobody else", async (t) => {
  const scene = new Scene();
  scene.lanes.segmentMs = 10;
  scene.flood(
    scene.sender(() => 64 * KIB),
    256 * KIB,
    16,
  );
  await scene.clock.run(5000);
  const free = scene.flood(scene.sender(), 8 * MIB);
  await scene.clock.run(1000);
  t.ok(free.sent >= 8 * MIB * 4 * 95, `${free.sent / MIB} MiB in a second`);
});

void t.test("all together stay below the host's limits", async (t) => {
  const scene = new Scene();
  scene.hostRate = 4 * MIB;
  scene.parallelCount = 3;
  scene.lanes.segmentMs = 5;
  const senders = [scene.sender(), scene.sender(() => 1 * MIB), scene.sender()];
  for (const sender of senders) scene.flood(sender, sender.largestSegmentBytes());
  await scene.clock.run(30_000);
  t.ok(scene.lanes.mostAtOnce <= 3);
  const most = 30 * 4 * MIB + burstBytes(4 * MIB);
  t.ok(scene.lanes.sentBytes <= most, `${scene.lanes.sentBytes / MIB} MiB`);
  t.ok(scene.lanes.sentBytes > 0.9 * most, `${scene.lanes.sentBytes / MIB} MiB`);
  scene.hostRate = null;
  await scene.clock.run(1000);
  t.equal(scene.lanes.mostAtOnce, 3);
});

void t.test("a replica that does not answer holds up no other's segments", async (t) => {
  const scene = new Scene();
  scene.lanes.segmentMs = 10;
  const dead: SegmentSender = {
    send: () => new Promise(() => {}),
    probe: () => new Promise(() => {}),
  };
  const deadPlaces = scene.newPlaces();
  for (let count = 0; count < 10; count += 1) {
    scene.flood(
      scene.sender(() => null, deadPlaces, dead),
      8 * MIB,
    );
  }
  const alive = scene.flood(scene.sender(), 8 * MIB);
  await scene.clock.run(1000);
  t.ok(alive.sent >= 8 * MIB * 4 * 95, `${alive.sent / MIB} MiB in a second`);
});

void t.test("segments are as large as a burst, in steps", async (t) => {
  const scene = new Scene();
  let rate: number | null = null;
  const sender = scene.sender(() => rate);
  t.equal(sender.largestSegmentBytes(), Number.POSITIVE_INFINITY);
  for (const [each, bytes] of [
    [8 * KIB, 256 * KIB],
    [1 * MIB, 256 * KIB],
    [4 * MIB, 1792 * KIB],
    [100 * MIB, 49 * MIB],
  ] as const) {
    rate = each;
    t.equal(sender.largestSegmentBytes(), bytes);
  }
  scene.hostRate = 1 * MIB;
  t.equal(sender.largestSegmentBytes(), 256 * KIB, "the host's rate counts too");
});

void t.test("a failed transfer counts as sent, one that was given up does not", async (t) => {
  const scene = new Scene();
  const sender = scene.sender(() => 1 * MIB);
  scene.lanes.failure = new Error("the line is down");
  for (let count = 0; count < 2; count += 1) {
    await t.rejects(sender.send(job(256 * KIB)), scene.lanes.failure);
    await scene.clock.run(count === 0 ? 600 : 0);
  }
  scene.lanes.failure = null;
  const stop = new AbortController();
  const waiting = sender.send(job(256 * KIB), stop.signal);
  await settle();
  t.equal(scene.lanes.sentBytes, 0, "it waits for what the failed one took");
  stop.abort(new Error("enough"));
  await t.rejects(waiting, { message: "enough" });
  t.equal(scene.lanes.underWay, 0);
  const next = sender.send(job(256 * KIB));
  await scene.clock.run(300);
  t.match(await next, { compressMs: 1 });
  t.equal(scene.clock.timerCount, 0);
});

void t.test("what is waited for here counts as the line's", async (t) => {
  const scene = new Scene();
  const sender = scene.sender(() => 1 * MIB);
  await sender.send(job(256 * KIB));
  await sender.send(job(240 * KIB));
  const third = sender.send(job(256 * KIB));
  await scene.clock.run(1000);
  const { lineMs } = await third;
  t.ok(lineMs > 150 && lineMs < 300, `${lineMs}`);
});
