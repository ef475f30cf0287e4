/** What `vm enable --dry-run` says, that it changes nothing, and disks that another VM has. */
import { createHash } from "node:crypto";
import { link, mkdir, readdir, readFile, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import { measureWay } from "#lib/daemon/dry-run/measure-way.js";
import type { EnablePlanBody } from "#lib/management/dry-run-schemas.js";
import type { VmStatus } from "#lib/management/schemas.js";
import { Cli } from "../support/cli.js";
import { Guest, replicated, startPair } from "../support/loopback-host.js";
import { scratchDirectory } from "../support/program.js";

const directory = await scratchDirectory(t);
const { primary, replica, replicaUrl } = await startPair(t, directory);
const cli = new Cli(primary.paths.directory);
const guest = await Guest.make(directory, "vm1");
const enable = (name: string, path: string, ...more: readonly string[]) => [
  "vm",
  "enable",
  name,
  "--disk",
  path,
  "--replica",
  replicaUrl,
  ...more,
];

/** Every file below, with what it holds; sockets by their names. */
async function contentOf(place: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const entry of await readdir(place, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const content = entry.isFile() ? await readFile(path) : Buffer.alloc(0);
    found.set(path, createHash("sha256").update(content).digest("hex"));
  }
  return found;
}

/** Runs it, and holds both hosts' directories and the disks against what they were. */
async function changesNothing<T>(t: Test, work: () => Promise<T>): Promise<T> {
  const before = await contentOf(directory);
  const outcome = await work();
  t.same(await contentOf(directory), before, "all files are as they were");
  return outcome;
}

void t.test("a disk that is half data: sizes, bytes to send, time, space", async (t) => {
  const plan = await changesNothing(t, () =>
    cli.json<EnablePlanBody>(t, ...enable("vm1", guest.diskPath, "--dry-run")),
  );
  const half = guest.content.length / 2;
  t.match(plan, { name: "vm1", sizeBytes: guest.content.length, allocatedBytes: half });
  t.same(plan.refusals, []);
  t.equal(plan.peer.isReady, true);
  t.ok((plan.peer.freeBytes ?? 0) > 0);
  const { measured, estimatedSendBytes: send, estimatedDurationMs: time } = plan;
  t.ok(measured !== null && measured.contentBytes >= 4 << 20, "it sent something");
  t.ok(send !== null && send > half * 0.98 && send < half * 1.02, "random data does not shrink");
  const rate = (measured?.contentBytes ?? 0) / (measured?.durationMs ?? 1);
  t.ok(Math.abs((time ?? 0) - half / rate) <= 1, "time by the measured rate");
  t.same(await cli.json(t, "vm", "status"), [], "nothing is enabled");
  t.same(await replica.api.call("vmList", {}), [], "nor there");
});

void t.test("data that compresses sends less; an empty disk sends nothing", async (t) => {
  const [text, empty] = [join(directory, "text.raw"), join(directory, "empty.raw")];
  await writeFile(text, "the same line again and again\n".repeat(100_000));
  await truncate(text, 4 << 20);
  await writeFile(empty, "");
  await truncate(empty, 1 << 30);
  const plan = await cli.json<EnablePlanBody>(t, ...enable("text", text, "--dry-run"));
  t.ok((plan.estimatedSendBytes ?? Infinity) < plan.allocatedBytes / 10);
  const none = await cli.json<EnablePlanBody>(t, ...enable("none", empty, "--dry-run"));
  t.match(none, { sizeBytes: 1 << 30, allocatedBytes: 0, measured: null, estimatedSendBytes: 0 });
  const human = await cli.text(t, ...enable("text", text, "--dry-run"));
  t.match(human, /First copy: about .* to send, in about /);
  t.match(human, /Nothing was changed; it would be enabled\.\n$/);
});

void t.test("refusals that would come, all at once", async (t) => {
  const missing = join(directory, "missing.raw");
  const plan = await changesNothing(t, () =>
    cli.deniedJson<EnablePlanBody>(t, ...enable("vm2", missing, "--dry-run")),
  );
  t.same(
    plan.refusals.map(({ code }) => code),
    ["NOT_FOUND"],
  );
  const nowhere = ["--disk", missing, "--replica", "https://127.0.0.1:9", "--dry-run"];
  const both = await cli.deniedJson<EnablePlanBody>(t, "vm", "enable", "vm2", ...nowhere);
  t.same(
    both.refusals.map(({ code }) => code),
    ["NOT_FOUND", "UNREACHABLE"],
  );
  t.equal(both.measured, null);
});

void t.test("a replica that accepts nothing, or has no room", async (t) => {
  const onReplica = new Cli(replica.paths.directory);
  await onReplica.text(t, "host", "accept-replicas", "off");
  const off = await cli.deniedJson<EnablePlanBody>(
    t,
    ...enable("vm1", guest.diskPath, "--dry-run"),
  );
  t.match(off.refusals, [{ code: "FORBIDDEN", hint: /accept-replicas on/ }]);
  await onReplica.text(t, "host", "accept-replicas", "on");
});

void t.test("a disk that another VM has is refused by that VM's name", async (t) => {
  await guest.enable(primary, replicaUrl);
  await replicated(primary, guest.name);
  await mkdir(join(directory, "links"));
  const [soft, hard] = [join(directory, "links", "soft"), join(directory, "links", "hard")];
  await symlink(guest.diskPath, soft);
  await link(guest.diskPath, hard);
  const roundabout = `${directory}/links/../vm1.raw`;
  for (const path of [guest.diskPath, soft, hard, roundabout]) {
    const said = await cli.fails(t, "CONFLICT", ...enable("vm2", path));
    t.match(said, /is disk vda of VM vm1/, path);
    const plan = await cli.deniedJson<EnablePlanBody>(t, ...enable("vm2", path, "--dry-run"));
    t.match(plan.refusals[0], { code: "CONFLICT", message: /is disk vda of VM vm1/ });
  }
  const other = join(directory, "other.raw");
  await writeFile(other, Buffer.alloc(1 << 20));
  const twice = ["vm", "enable", "vm2", "--disk", other, other, "--replica", replicaUrl];
  t.match(await cli.fails(t, "INVALID_ARGUMENT", ...twice), /are one disk/);
  await primary.api.call("vmRemove", {}, { vm: guest.name });
  const vm = await cli.json<VmStatus>(t, ...enable("vm2", soft));
  t.equal(vm.name, "vm2", "free again, also through a link");
});

void t.test("the measurement is bounded, by bytes and by time", async (t) => {
  const samples = [new Uint8Array(1 << 20), new Uint8Array(1 << 20), new Uint8Array(5)];
  const receipt = { segmentIndex: 0, sha256: "", dataBytes: 0, zeroBytes: 0, wireBytes: 10 };
  let nowMs = 0;
  const run = async (stepMs: number) => {
    let sentBytes = 0;
    nowMs = 0;
    const measured = await measureWay(
      samples,
      async (pieces) => {
        nowMs += stepMs;
        for (const piece of pieces) sentBytes += piece.length;
        return receipt;
      },
      () => nowMs,
    );
    return { measured, sentBytes };
  };
  const fast = await run(1);
  t.ok(fast.sentBytes < (64 << 20) + 4 * (4 << 20), "64 MiB and what was under way");
  const slow = await run(2_000);
  t.ok(slow.sentBytes <= 5 * (2 << 20) + 25, "a few probes of a thin line");
  t.ok((slow.measured?.durationMs ?? 0) >= 3_000);
  t.equal(await measureWay([], async () => receipt), null);
});
