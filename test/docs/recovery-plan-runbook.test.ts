/** docs/recovery-plans.md, followed word by word. */
import { mkdtemp, realpath, rm } from "node:fs/promises";
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
const skip = await skipWithout("qemu-img");

void t.test("every command of it works, and prints what it says", { skip }, async (t) => {
  const directory = await realpath(await mkdtemp(join(tmpdir(), "tidemark-plan-")));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const { primary, replica, replicaUrl } = await startPair(t, directory);
  for (const name of ["web", "db", "mail"]) {
    const guest = await Guest.make(directory, name);
    await guest.enable(primary, replicaUrl);
    if (name === "mail") continue;
    await primary.api.call("vmGroup", { group: "shop" }, { vm: name });
  }
  const cuts = () => replica.api.call("groupPointList", {}, { group: "shop" });
  await eventually("a complete cut", async () => (await cuts()).some((cut) => cut.isComplete));
  const mail = () => replica.vm("mail").catch(() => null);
  await eventually("a point", async () => (await mail())?.replica?.head);

  const words = [...PLAIN_NODE, PROGRAM, "--dir", replica.paths.directory];
  const prelude = `cd '${directory}'
tidemark() { ${words.map((word) => `'${word}'`).join(" ")} "$@"; }`;
  const steps = await followRunbook("../recovery-plans.md", prelude);
  t.ok(steps.length >= 8, `${steps.length} steps`);
  for (const { commands, printed, promised } of steps) {
    if (promised === null) continue;
    t.same(linesOf(printed.replaceAll(directory, "/etc/tidemark")), linesOf(promised), commands);
  }
  for (const name of ["web", "db", "mail"]) {
    t.equal((await replica.vm(name)).promotion?.cause, "unplanned-failover", name);
  }
});

/** VMs of a group come in the order of their ids, which differs from run to run. */
function linesOf(text: string): readonly string[] {
  const lines = withoutParticulars(text)
    .replace(/ \d+ TIME/g, " NUMBER TIME")
    .split("\n");
  return lines.map((line) => line.replace(/: (db|web|mail)( (db|web|mail)){2}$/, ": VMS")).sort();
}
