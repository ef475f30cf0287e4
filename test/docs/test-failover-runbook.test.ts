/** The runbook of test failovers, followed word by word. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import t from "tap";
import { skipWithout } from "../support/foreign-tools.js";
import { eventually, Guest, startPair } from "../support/loopback-host.js";
import { PLAIN_NODE } from "../support/plain-node.js";
import { followRunbook, withoutParticulars } from "../support/runbook.js";

t.setTimeout(240_000);

const PROGRAM = fileURLToPath(new URL("../../bin/tidemark.js", import.meta.url));
const skip = await skipWithout("qemu-img", "qemu-system-x86_64");

void t.test("every command of it works, and prints what it says", { skip }, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "tidemark-runbook-"));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const { primary, replica, replicaUrl } = await startPair(t, directory);
  for (const name of ["web", "db"]) {
    const guest = await Guest.make(directory, name);
    t.teardown(() => guest.disconnect());
    await guest.enable(primary, replicaUrl);
    await primary.api.call("vmGroup", { group: "shop" }, { vm: name });
  }
  const cuts = () => replica.api.call("groupPointList", {}, { group: "shop" });
  await eventually("a complete cut", async () => (await cuts()).some((cut) => cut.isComplete));

  const words = [...PLAIN_NODE, PROGRAM, "--dir", replica.paths.directory];
  const prelude = `cd '${directory}'
trap '[ ! -e test-vm.pid ] || kill "$(cat test-vm.pid)"' EXIT
tidemark() { ${words.map((word) => `'${word}'`).join(" ")} "$@"; }`;
  const steps = await followRunbook("test-failover.md", prelude);
  t.ok(steps.length >= 9, `${steps.length} steps`);
  for (const { commands, printed, promised } of steps) {
    if (promised === null) continue;
    t.equal(withoutParticulars(printed), withoutParticulars(promised), commands);
  }
  const { last } = await replica.api.call("testFailoverList", {}, { vm: "web" });
  t.equal(last?.outcome, "closed");
});
