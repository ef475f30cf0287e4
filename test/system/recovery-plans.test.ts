/** Recovery plans on a real replica: over the death of the service, and their tests. */
import { randomBytes } from "node:crypto";
import { chmod, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { contentOf } from "../support/host-orders.js";
import { eventually, Guest, replicated, startPair } from "../support/loopback-host.js";
import { scratchDirectory, tidemark } from "../support/program.js";

t.setTimeout(240_000);
const directory = await scratchDirectory(t);
const { primary, replica, replicaUrl } = await startPair(t, join(directory, "pair"));
const guest = await Guest.make(directory, "web");
await guest.enable(primary, replicaUrl);
await replicated(primary, "web");

const plan = { plan: "shop" };
const log = join(directory, "log");
const onPlan = (...args: readonly string[]) =>
  tidemark("--dir", replica.paths.directory, "plan", ...args);

async function script(name: string, text: string): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, `#!/bin/sh -eu\necho ${name} >> ${log}\n${text}\n`, { mode: 0o755 });
  return path;
}

/** The first time it waits for its end. */
const waiting = `[ ! -e ${directory}/again ] || exit 0
touch ${directory}/again
echo $$ > ${directory}/pid.new && mv ${directory}/pid.new ${directory}/pid
exec sleep 60`;

async function addPlan(): Promise<void> {
  const steps = [
    { name: "before", script: { path: await script("before", "") } },
    { name: "web", failover: { vms: ["web"] } },
    { name: "hold", script: { path: await script("hold", waiting) } },
    { name: "after", script: { path: await script("after", "echo $TIDEMARK_DISKS") } },
  ];
  const path = join(directory, "shop.json");
  await writeFile(path, JSON.stringify({ version: 1, name: "shop", steps }));
  const { exitCode, stderr } = await onPlan("add", path);
  t.same([exitCode, stderr], [0, ""]);
}

void t.test("a test run leaves the VM where it is, and is ended by order", async (t) => {
  await addPlan();
  await writeFile(`${directory}/again`, "");
  const { exitCode, stdout } = await onPlan("run", "shop", "--test");
  t.equal(exitCode, 0);
  t.match(stdout, /^after: done .*\nPlan shop: test run completed/m);
  t.equal((await replica.vm("web")).role, "replica");
  const { open } = await replica.api.call("testFailoverList", {}, { vm: "web" });
  t.equal(open.length, 1);
  const report = await replica.api.call("planReport", {}, { ...plan, run: "last" });
  t.match(report.steps[3]?.script?.output, open[0]?.disks[0]?.uri ?? "no URI");
  t.match((await onPlan("run", "shop", "--test")).stderr, /are open.*CONFLICT/s);
  t.match((await onPlan("end-test", "shop")).stdout, /Closed 1 test failover\./);
  t.same((await replica.api.call("testFailoverList", {}, { vm: "web" })).open, []);
});

void t.test("T43: a real run that the service's death interrupts is resumed", async (t) => {
  await writeFile(log, "");
  await guest.write(0, randomBytes(4096));
  await replicated(primary, "web");
  await rm(`${directory}/again`);
  const before = Buffer.from(guest.content);
  const begun = await onPlan("run", "shop", "--real", "--yes", "--no-wait");
  t.equal(begun.exitCode, 0, begun.stderr);
  const readPid = () => readFile(`${directory}/pid`, "utf8").catch(() => null);
  const pid = await eventually("the third step", readPid);
  t.match((await onPlan("run", "shop", "--real", "--yes")).stderr, /because it runs.*IN_USE/s);
  await replica.stop("SIGKILL");
  process.kill(-Number(pid), "SIGKILL");
  await replica.start();

  t.match((await onPlan("report", "shop")).stdout, /real run interrupted in step hold\n/);
  t.match((await onPlan("runs", "shop")).stdout, /real run interrupted in step hold\n$/);
  const resumed = await onPlan("run", "shop", "--resume");
  t.equal(resumed.exitCode, 0, resumed.stderr);
  t.match(resumed.stdout, /^hold: done .*\nafter: done .*\nPlan shop: real run completed/);
  t.equal(await readFile(log, "utf8"), "before\nhold\nhold\nafter\n");
  const web = await replica.vm("web");
  t.match(web, { role: "primary", promotion: { generationNumber: 2 } });
  t.ok((await contentOf(web)).equals(before), "byte for byte");
  const { steps } = await replica.api.call("planReport", {}, { ...plan, run: "last" });
  const loss = steps[1]?.chosen?.vms[0]?.loss;
  t.ok((loss?.atMostMs ?? -1) >= (loss?.givenUpMs ?? 0));
  t.equal(loss?.givenUpMs, 0, "from the newest point");
  t.match((await onPlan("run", "shop", "--resume")).stderr, /its last run is completed.*CONFLICT/s);
});

void t.test("what is no plan is refused, and where", async (t) => {
  const path = join(directory, "bad.json");
  const refused = async (plan: object, pattern: RegExp) => {
    await writeFile(path, JSON.stringify(plan));
    t.match((await onPlan("add", path)).stderr, pattern);
  };
  const named = { version: 1, name: "bad" };
  await refused({ ...named, steps: [{ name: "a" }] }, /steps\.0 is no part .*one of failover/);
  await refused({ ...named, version: 2, steps: [] }, /VERSION_UNKNOWN/);
  const relative = { name: "a", script: { path: "bin/x" } };
  await refused({ ...named, steps: [relative] }, /steps\.0\.script\.path .*absolute/);
  const twice = { name: "a", delayMs: 1 };
  await refused({ ...named, steps: [twice, twice] }, /two steps have one name/);
  guest.disconnect();
  await chmod(join(directory, "after"), 0o777);
  const unsafe = (await onPlan("run", "shop", "--test")).stderr;
  t.match(unsafe, /its step after cannot be done\. .*others may write to .*FORBIDDEN/s);
});
