import t from "tap";
import { Guest, runGuest } from "./lab/guest.js";
import { guestIsMissing } from "./lab/missing.js";

const skip = await guestIsMissing();

void t.test("a guest runs its job and reports how it ended", { skip }, async (t) => {
  const { status, output } = await runGuest({
    job: "cat greeting; modprobe nbd && ls /dev/nbd0; exit 7",
    files: { greeting: "hello from the host\n" },
    modules: ["nbd"],
  });
  t.equal(status, 7, output);
  t.match(output, /hello from the host\n\/dev\/nbd0/);
});

void t.test("a guest that hangs is ended at its limit, and has no status", { skip }, async (t) => {
  const { status, isTimedOut } = await runGuest({ job: "sleep 1000", limitMs: 5000 });
  t.equal(isTimedOut, true);
  t.equal(status, null);
});

void t.test("host and job speak over the console", { skip }, async (t) => {
  await using guest = await Guest.start({ job: 'echo ready; read answer; [ "$answer" = 42 ]' });
  await guest.until(/^ready$/m);
  guest.say("42");
  t.equal((await guest.ended).status, 0, guest.output);
});
