import t from "tap";
import { CycleMonitor } from "#lib/replication/cycle-monitor.js";
import { VirtualClock } from "./simulation/virtual-clock.js";

void t.test("cycles count for an hour", async (t) => {
  const clock = new VirtualClock();
  const monitor = new CycleMonitor(clock);
  monitor.setInterval(5000);
  for (let minute = 0; minute < 90; minute += 1) {
    monitor.done(1000);
    if (minute < 30) monitor.missed(2);
    await clock.run(60_000);
  }
  t.same(monitor.summary(), { doneCount: 59, missedCount: 0, meanDurationMs: 1000 });
});

void t.test("with a long interval, cycles count for 60 of them", async (t) => {
  const clock = new VirtualClock();
  const monitor = new CycleMonitor(clock);
  monitor.setInterval(3_600_000);
  for (let hour = 0; hour < 40; hour += 1) {
    monitor.done(hour * 100);
    monitor.missed(1);
    await clock.run(3_600_000);
  }
  t.same(monitor.summary(), { doneCount: 40, missedCount: 40, meanDurationMs: 1950 });
  monitor.setInterval(5000);
  t.same(monitor.summary(), { doneCount: 0, missedCount: 0, meanDurationMs: 0 });
});
