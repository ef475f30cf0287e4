/** The runbooks of failovers, followed word by word. */
import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import t from "tap";
import { skipWithout } from "../support/foreign-tools.js";
import { Guest, replicated, startPair } from "../support/loopback-host.js";
import { PLAIN_NODE } from "../support/plain-node.js";
import { followRunbook, withoutParticulars } from "../support/runbook.js";

t.setTimeout(300_000);

const PROGRAM = fileURLToPath(new URL("../../bin/tidemark.js", import.meta.url));
const skip = await skipWithout("qemu-img");

void t.test("every command of them works, and prints what they say", { skip }, async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "tidemark-runbook-"));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const { primary, replica, replicaUrl } = await startPair(t, directory);
  const primaryUrl = await primary.keepPort();
  await symlink(primary.paths.directory, join(directory, "primary"));
  await symlink(replica.paths.directory, join(directory, "replica"));
  const program = [...PLAIN_NODE, PROGRAM].map((word) => `'${word}'`).join(" ");
  const prelude = `cd '${directory}'
primary_url='${primaryUrl}' replica_url='${replicaUrl}'
tidemark() { ${program} "$@"; }`;
  const plain = (text: string) =>
    withoutParticulars(text)
      .replace(/https:\/\/127\.0\.0\.1:\d+/g, "URL")
      .replace(/gives up \d+/, "gives up NUMBER");

  for (const [vm, page] of [
    ["web", "planned-failover.md"],
    ["db", "failover.md"],
  ] as const) {
    const guest = await Guest.make(directory, vm);
    await guest.enable(primary, replicaUrl);
    await replicated(primary, vm);
    const steps = await followRunbook(page, prelude);
    t.ok(steps.length >= 6, `${steps.length} steps`);
    for (const { commands, printed, promised } of steps) {
      if (promised !== null) t.equal(plain(printed), plain(promised), commands);
    }
  }
  t.match(await primary.vm("web"), { role: "primary", promotion: null });
  t.match(await replica.vm("db"), { role: "primary", promotion: null, relationship: null });
});
