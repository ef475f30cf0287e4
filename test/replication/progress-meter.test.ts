import t from "tap";
import { ProgressMeter } from "#lib/replication/progress-meter.js";
import { VirtualClock } from "./simulation/virtual-clock.js";

void t.test("rate and time left are those of the last half minute", async (t) => {
  const clock = new VirtualClock();
  const meter = new ProgressMeter(clock);
  t.equal(meter.progress(), null);
  meter.note(0, 10_000);
  t.match(meter.progress(), { sentBytes: 0, bytesPerSecond: null, remainingMs: null });
  let sent = 0;
  const at = async (bytesPerSecond: number, seconds: number) => {
    for (let second = 0; second < seconds; second += 1) {
      await clock.run(1000);
      sent += bytesPerSecond;
      meter.note(sent, 10_000);
    }
  };
  await at(100, 20);
  t.match(meter.progress(), { sentBytes: 2000, bytesPerSecond: 100, remainingMs: 80_000 });
  await at(10, 40);
  t.match(meter.progress(), { sentBytes: 2400, bytesPerSecond: 10, remainingMs: 760_000 });
});

void t.test("a copy that stands still has no time left to tell", async (t) => {
  const clock = new VirtualClock();
  const meter = new ProgressMeter(clock);
  meter.note(500, 1000);
  await clock.run(60_000);
  t.match(meter.progress(), { bytesPerSecond: 0, remainingMs: null });
});

void t.test("what was given back does not count as progress", async (t) => {
  const clock = new VirtualClock();
  const meter = new ProgressMeter(clock);
  meter.note(0, 1000);
  await clock.run(1000);
  meter.note(800, 1000);
  meter.note(100, 1000);
  await clock.run(1000);
  meter.note(200, 1000);
  t.match(meter.progress(), { bytesPerSecond: 100, remainingMs: 8000 });
});
