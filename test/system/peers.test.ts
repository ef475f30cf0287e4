/** Accepting replicas, testing a peer and replicating through a proxy, over real hosts. */
import { join } from "node:path";
import t, { type Test } from "tap";
import type { PeerTestReportBody } from "#lib/management/peer-schemas.js";
import type { HostStatus, VmStatus } from "#lib/management/schemas.js";
import { Cli } from "../support/cli.js";
import { ConnectProxy } from "../support/connect-proxy.js";
import {
  contentOfPoint,
  eventually,
  Guest,
  lastErrorOf,
  LoopbackHost,
  replicated,
} from "../support/loopback-host.js";
import { scratchDirectory } from "../support/program.js";
import { createCa } from "#lib/security/pki.js";

const directory = await scratchDirectory(t);
const caDirectory = join(directory, "ca");
await createCa(caDirectory);
const primary = await LoopbackHost.prepare(t, join(directory, "p"), { caDirectory });
const replica = await LoopbackHost.prepare(t, join(directory, "r"), { caDirectory });
await Promise.all([primary.start(), replica.start()]);
const replicaUrl = await replica.keepPort();
const [onPrimary, onReplica] = [primary, replica].map(({ paths }) => new Cli(paths.directory)) as [
  Cli,
  Cli,
];
const guest = await Guest.make(directory, "vm1");

function outcomes({ steps }: PeerTestReportBody): string[] {
  return steps.map(({ step, outcome }) => `${step} ${outcome}`);
}

void t.test("a new host accepts nothing, and says so", async (t) => {
  const status = await onReplica.json<HostStatus>(t, "host", "status");
  t.match(status, {
    acceptsReplicas: false,
    replicaRoot: join(replica.paths.directory, "replica"),
  });
  const report = await onPrimary.deniedJson<PeerTestReportBody>(t, "peer", "test", replicaUrl);
  t.same(outcomes(report), [
    "name ok",
    "route ok",
    "certificate ok",
    "version ok",
    "accepting failed",
    "permission not tried",
    "space not tried",
  ]);
  t.match(report.steps[4], { hint: /tidemark host accept-replicas on/ });
  await guest.enable(primary, replicaUrl);
  const error = await lastErrorOf(primary, guest.name, "FORBIDDEN");
  t.match(error, { message: /accepts no replicas/, hint: /host accept-replicas on/ });
});

void t.test("turned on, it is ready, and what was refused goes on", async (t) => {
  const told = await onReplica.text(t, "host", "accept-replicas", "on");
  t.match(told, /^Accepts replicas at 127\.0\.0\.1:\d+, kept in .*replica\.\n$/);
  const report = await onPrimary.json<PeerTestReportBody>(t, "peer", "test", replicaUrl);
  t.same(new Set(report.steps.map(({ outcome }) => outcome)), new Set(["ok"]));
  t.match(report, { isReady: true, hostName: "r", freeBytes: Number });
  const human = await onPrimary.text(t, "peer", "test", replicaUrl.replace("https://", ""));
  t.match(human, /^name +ok +127\.0\.0\.1 is an address\.\n/);
  t.match(human, /\nReady: tidemark --dir \S+ vm enable VM --disk PATH --replica https:/);
  await onPrimary.text(t, "vm", "resume", guest.name);
  await replicated(primary, guest.name);
});

void t.test("it is remembered over a restart, and off stops what is there", async (t) => {
  await replica.stop();
  await replica.start();
  t.match(await onReplica.text(t, "host", "status"), /Accepts replicas at/);
  await replicated(primary, guest.name);
  const told = await onReplica.text(t, "host", "accept-replicas", "off");
  t.match(told, /^Accepts no replicas any more; what is there stays\.\n$/);
  await lastErrorOf(primary, guest.name, "FORBIDDEN");
  const points = await onReplica.json<unknown[]>(t, "vm", "points", guest.name);
  t.ok(points.length > 0, "its own administrator still has them");
  await replica.stop();
  await replica.start();
  t.match(await onReplica.text(t, "host", "status"), /Accepts no replicas/);
  await onReplica.text(t, "host", "accept-replicas", "on");
  await onPrimary.text(t, "vm", "resume", guest.name);
  await replicated(primary, guest.name);
});

void t.test("a peer that cannot be reached; names that are none", async (t) => {
  const nobody = "https://127.0.0.1:9";
  const report = await onPrimary.deniedJson<PeerTestReportBody>(t, "peer", "test", nobody);
  t.same(outcomes(report).slice(0, 3), ["name ok", "route failed", "certificate not tried"]);
  for (const url of ["http://127.0.0.1:1", "https://a/b", "a b", ""]) {
    await onPrimary.fails(t, "INVALID_ARGUMENT", "peer", "test", url);
  }
});

async function throughProxy(t: Test, proxy: ConnectProxy): Promise<Guest> {
  const other = await Guest.make(directory, "vm2");
  const enable = ["vm", "enable", other.name, "--disk", other.diskPath, "--every", "1s"];
  await onPrimary.fails(t, "INVALID_ARGUMENT", ...enable, "--replica", replicaUrl, "--proxy", "x");
  const to = ["--replica", replicaUrl, "--proxy", proxy.url];
  const vm = await onPrimary.json<VmStatus>(t, ...enable, ...to);
  t.equal(vm.relationship?.settings.proxyUrl, proxy.url);
  other.uri = vm.disks[0]?.uri ?? "";
  return other;
}

void t.test("a relationship through a proxy: all of it, also after a restart", async (t) => {
  const proxy = await ConnectProxy.start();
  t.teardown(() => proxy.close());
  const other = await throughProxy(t, proxy);
  await replicated(primary, other.name);
  t.ok(proxy.bytes > other.content.length / 2, "the first copy went through it");
  t.ok(proxy.tunnels.length >= 2, "control and lanes");
  t.ok(proxy.openings.every((bytes) => bytes.readUInt16BE(0) === 0x1603));
  await other.write(8192, Buffer.alloc(4096, 9));
  await replicated(primary, other.name);
  other.disconnect();
  t.ok((await contentOfPoint(replica, other.name)).equals(other.content));

  proxy.refusal = 403;
  await primary.stop();
  await primary.start();
  const error = await lastErrorOf(primary, other.name, "UNREACHABLE");
  t.match(error, { message: /proxy .*HTTP status 403/, retryable: true });
  const before = proxy.tunnels.length;
  proxy.refusal = null;
  await replicated(primary, other.name);
  t.ok(proxy.tunnels.length > before, "the setting survived");
  const { steps } = await onPrimary.json<PeerTestReportBody>(
    t,
    "peer",
    "test",
    replicaUrl,
    "--proxy",
    proxy.url,
  );
  t.match(steps[1]?.detail, "by way of");
  await onPrimary.text(t, "vm", "set", other.name, "--proxy", "none");
  proxy.refusal = 403;
  await replicated(primary, other.name);
  await replicated(primary, other.name);
  t.equal((await primary.vm(other.name)).relationship?.settings.proxyUrl, undefined);
  await eventually("the other VM's cycles", async () => replicated(primary, guest.name));
});
