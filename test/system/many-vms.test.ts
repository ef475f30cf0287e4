/** Many VMs with one order, removal on both sides, and maintenance, over real hosts. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { HostStatus, VmStatus } from "#lib/management/schemas.js";
import { Cli } from "../support/cli.js";
import { Guest, replicated, startPair } from "../support/loopback-host.js";
import { scratchDirectory, tidemark } from "../support/program.js";

const directory = await scratchDirectory(t);
const { primary, replica, replicaUrl } = await startPair(t, directory);
const [onPrimary, onReplica] = [primary, replica].map(({ paths }) => new Cli(paths.directory)) as [
  Cli,
  Cli,
];
const NAMES = ["web1", "web2", "db1"];

async function states(): Promise<Record<string, string | undefined>> {
  const vms = await primary.api.call("vmList", {});
  return Object.fromEntries(vms.map((vm) => [vm.name, vm.relationship?.state]));
}

/** Those that are named are suspended, the others replicate. */
async function expectSuspended(t: Test, ...suspended: string[]): Promise<void> {
  const found = await states();
  const expected = Object.keys(found).map((name) => [
    name,
    suspended.includes(name) ? "suspended" : "replicating",
  ]);
  t.same(found, Object.fromEntries(expected));
}

void t.test("three VMs", async () => {
  for (const name of NAMES) await (await Guest.make(directory, name)).enable(primary, replicaUrl);
  for (const name of NAMES) await replicated(primary, name);
});

void t.test("suspend and resume by pattern, state, replica and all", async (t) => {
  t.equal(await onPrimary.text(t, "vm", "suspend", "web*"), "Suspended web1.\nSuspended web2.\n");
  await expectSuspended(t, "web1", "web2");
  t.equal(
    await onPrimary.text(t, "vm", "resume", "--state", "suspended", "web2"),
    "Resumed web2.\n",
  );
  await expectSuspended(t, "web1");
  const elsewhere = ["--replica", "https://elsewhere.example:1"];
  t.equal(await onPrimary.text(t, "vm", "suspend", ...elsewhere), "No VM fits.\n");
  await onPrimary.text(t, "vm", "suspend", "--replica", replicaUrl);
  await expectSuspended(t, ...NAMES);
  await onPrimary.text(t, "vm", "resume", "--all");
  await expectSuspended(t);
  await onPrimary.fails(t, "INVALID_ARGUMENT", "vm", "suspend");
  await onPrimary.fails(t, "NOT_FOUND", "vm", "suspend", "web1", "nobody");
  await expectSuspended(t);
  const outcomes = await onPrimary.json<object[]>(t, "vm", "suspend", "db1");
  t.match(outcomes, [{ name: "db1", error: null }]);
});

void t.test(
  "maintenance suspends what is active, over a kill, and resumes just that",
  async (t) => {
    t.equal(await onPrimary.text(t, "host", "maintenance"), "Not in maintenance.\n");
    const told = await onPrimary.text(t, "host", "maintenance", "on");
    t.match(told, /^In maintenance since .*; its end resumes web1, web2\.\n$/);
    await expectSuspended(t, ...NAMES);
    const status = await onPrimary.json<HostStatus>(t, "host", "status");
    t.ok((status.maintenanceSinceMs ?? 0) > 0);
    t.match(await onPrimary.text(t, "host", "status"), /In maintenance since/);
    const late = await Guest.make(directory, "late");
    const enable = ["vm", "enable", "late", "--disk", late.diskPath, "--replica", replicaUrl];
    t.match(await onPrimary.fails(t, "CONFLICT", ...enable), /in maintenance/);
    await primary.stop("SIGKILL");
    await primary.start();
    await expectSuspended(t, ...NAMES);
    await onPrimary.text(t, "vm", "suspend", "web2");
    t.equal(await onPrimary.text(t, "host", "maintenance", "off"), "Not in maintenance.\n");
    await expectSuspended(t, "db1", "web2");
    await replicated(primary, "web1");
    await onPrimary.text(t, "vm", "resume", "db1", "web2");
  },
);

async function replicasOf(): Promise<string[]> {
  return (await replica.api.call("vmList", {})).map(({ name }) => name).sort();
}

void t.test("removed on both sides with one order; refused while a point is open", async (t) => {
  for (const name of NAMES) await replicated(primary, name);
  const { vmId } = await primary.vm("web1");
  const opened = await replica.api.call("testFailover", {}, { vm: "web1" });
  const remove = ["--dir", primary.paths.directory, "vm", "remove", "web*", "--delete-replica"];
  const first = await tidemark(...remove);
  t.match(first, { exitCode: 1, stdout: "Removed web2.\n" });
  t.match(
    first.stderr,
    /^tidemark: web1: Cannot delete the replica of web1: .*open.*\[IN_USE\]\n$/,
  );
  t.same(await replicasOf(), ["db1", "web1"]);
  t.equal((await states())["web1"], "suspended", "and nothing makes a new replica meanwhile");
  await replica.api.call("exportClose", {}, { export: opened.exportId });
  t.match(await tidemark(...remove), { exitCode: 0, stdout: "Removed web1.\n" });
  t.same(await replicasOf(), ["db1"]);
  await t.rejects(stat(join(replica.paths.directory, "replica", "vms", vmId)), { code: "ENOENT" });
  t.same(Object.keys(await states()), ["db1"]);
});

void t.test("a replica that is away: the order can be given again", async (t) => {
  await replica.stop();
  const remove = ["--dir", primary.paths.directory, "vm", "remove", "db1", "--delete-replica"];
  const first = await tidemark(...remove);
  t.match(first, { exitCode: 1, stderr: /db1: .*\[UNREACHABLE\]/ });
  await replica.start();
  t.match(await tidemark(...remove), { exitCode: 0 });
  t.same([await replicasOf(), Object.keys(await states())], [[], []]);
});

void t.test("a replica whose primary is done with it is deleted where it is", async (t) => {
  const guest = await Guest.make(directory, "old");
  await guest.enable(primary, replicaUrl);
  await replicated(primary, "old");
  t.equal(await onPrimary.text(t, "vm", "remove", "--all"), "Removed old.\n");
  t.same(await replicasOf(), ["old"], "kept without --delete-replica");
  const kept = await onReplica.json<VmStatus>(t, "vm", "status", "old");
  t.ok((kept.replica?.pointCount ?? 0) > 0);
  t.equal(await onReplica.text(t, "vm", "delete-replica", "old"), "Deleted the replica of old.\n");
  await onReplica.fails(t, "NOT_FOUND", "vm", "delete-replica", "old");
  await replica.stop();
  await replica.start();
  t.same(await replicasOf(), []);
});
