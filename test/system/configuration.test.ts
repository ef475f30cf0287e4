/** A host's configuration out and in again, over real hosts through the command line. */
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import type {
  ConfigurationImportReport,
  HostConfigurationDocument,
} from "#lib/management/configuration-schemas.js";
import { Cli } from "../support/cli.js";
import { Guest, replicated, startPair } from "../support/loopback-host.js";
import { scratchDirectory } from "../support/program.js";

const directory = await scratchDirectory(t);
const { primary, replicaUrl } = await startPair(t, directory);
const cli = new Cli(primary.paths.directory);
const file = join(directory, "configuration.json");
const NAMES = ["one", "two"];

async function document(): Promise<HostConfigurationDocument> {
  return JSON.parse(await readFile(file, "utf8")) as HostConfigurationDocument;
}

async function imported(t: Test, ...more: string[]): Promise<ConfigurationImportReport> {
  return cli.json<ConfigurationImportReport>(t, "host", "import-configuration", file, ...more);
}

function actions({ relationships }: ConfigurationImportReport): string[] {
  return relationships.map(({ name, action }) => `${name} ${action}`);
}

async function vmNames(): Promise<string[]> {
  return (await primary.api.call("vmList", {})).map(({ name }) => name).sort();
}

void t.test("an export says what was set, and holds no key", async (t) => {
  for (const name of NAMES) await (await Guest.make(directory, name)).enable(primary, replicaUrl);
  for (const name of NAMES) await replicated(primary, name);
  await cli.text(t, "vm", "group", "two", "pair");
  await cli.text(t, "vm", "add-target", "one", "--to", "127.0.0.1:1", "--name", "far");
  await cli.text(t, "host", "monitoring", "--interval", "24h", "--start", "06:00");
  const told = await cli.text(t, "host", "export-configuration", file);
  t.equal(told, `Wrote ${file}: the host and 2 relationships.\n`);
  t.equal((await stat(file)).mode & 0o077, 0);
  const { host, relationships } = await document();
  t.match(host, {
    acceptsReplicas: false,
    monitoring: { intervalMs: 86_400_000, startMinutes: 360 },
  });
  t.match(relationships, [
    {
      name: "one",
      replicaUrl,
      intervalMs: 1000,
      disks: [{ name: "vda" }],
      targets: [{ targetName: "far", replicaUrl: "https://127.0.0.1:1", intervalMs: 5000 }],
    },
    { name: "two", replicaUrl, intervalMs: 1000, group: "pair" },
  ]);
  const key = await readFile(join(primary.paths.pki, "host.key"), "utf8");
  const text = await readFile(file, "utf8");
  t.notMatch(text, /BEGIN|PRIVATE/);
  t.notOk(text.includes(key.split("\n")[1] ?? "?"));
  await cli.fails(t, "ALREADY_EXISTS", "host", "export-configuration", file);
});

void t.test("an import of what is there changes nothing", async (t) => {
  const before = (await primary.api.call("vmList", {})).map(({ vmId }) => vmId);
  for (const more of [["--dry-run"], []]) {
    const report = await imported(t, ...more);
    t.same(report.host, []);
    t.same(actions(report), ["one none", "one@far none", "two none"]);
  }
  t.same(
    (await primary.api.call("vmList", {})).map(({ vmId }) => vmId),
    before,
  );
  const told = await cli.text(t, "host", "import-configuration", file);
  t.equal(told, "Nothing to change.\n");
});

void t.test("what is missing or different is said beforehand, and done", async (t) => {
  await cli.text(t, "vm", "remove", "one");
  await cli.text(t, "vm", "group", "two", "--leave");
  await cli.text(t, "host", "monitoring", "--start", "09:00");
  await cli.text(t, "host", "transfers", "--parallel-cycles", "7");
  await cli.text(t, "vm", "set", "two", "--every", "30s", "--priority", "low");
  const planned = await imported(t, "--dry-run");
  t.match(planned.host, [
    { setting: "monitoring", to: { startMinutes: 360 } },
    { setting: "transfers", from: { parallelCycles: 7 } },
  ]);
  t.same(actions(planned), ["one enable", "one@far enable", "two change"]);
  const changed = planned.relationships[2]?.changes;
  t.same(
    new Set(changed?.map(({ setting, from, to }) => `${setting} ${String(from)} ${String(to)}`)),
    new Set(["intervalMs 30000 1000", "priority low normal", "group null pair"]),
  );
  t.same(await vmNames(), ["two"], "nothing was done");
  const done = await imported(t);
  t.same([done.host, done.relationships], [planned.host, planned.relationships]);
  t.same(await vmNames(), NAMES);
  await replicated(primary, "one");
  const { relationship } = await primary.vm("two");
  t.match(relationship?.settings, { group: "pair", intervalMs: 1000, priority: "normal" });
  t.same(
    actions(await imported(t)),
    ["one none", "one@far none", "two none"],
    "once more: nothing",
  );
  await cli.text(t, "vm", "set", "one@far", "--priority", "low");
  t.same(actions(await imported(t)), ["one none", "one@far change", "two none"]);
  const [far] = (await primary.vm("one")).targets;
  t.match(far, { name: "far", relationship: { settings: { priority: "normal" } } });
});

void t.test("one that cannot be is refused by itself; the others go on", async (t) => {
  const { relationships, ...rest } = await document();
  const third = await Guest.make(directory, "three");
  const [one, two] = relationships;
  const more = [
    { ...one, disks: [{ name: "vdb", path: third.diskPath }] },
    { ...two, name: "missing", disks: [{ path: join(directory, "missing.raw") }] },
    { ...two, name: "three", disks: [{ path: third.diskPath }] },
  ];
  await writeFile(file, JSON.stringify({ ...rest, relationships: more }));
  const args = ["host", "import-configuration", file];
  const report = await cli.deniedJson<ConfigurationImportReport>(t, ...args);
  t.same(
    report.relationships.map(({ name, action, error }) => [name, action, error?.code ?? null]),
    [
      ["one", "change", "CONFLICT"],
      ["one@far", "none", null],
      ["missing", "enable", "NOT_FOUND"],
      ["three", "enable", null],
    ],
  );
  t.match(report.relationships[0]?.error?.message, /Cannot change disks of one/);
  t.same(await vmNames(), ["one", "three", "two"], "what is not named stays");
});

void t.test("what is no configuration is refused before anything is done", async (t) => {
  const wrong: [string, string][] = [
    ["INVALID_ARGUMENT", "rubbish"],
    ["INVALID_ARGUMENT", JSON.stringify({ ...(await document()), format: "other" })],
    ["VERSION_UNKNOWN", JSON.stringify({ ...(await document()), version: 2 })],
    ["INVALID_ARGUMENT", JSON.stringify({ ...(await document()), keys: [] })],
  ];
  for (const [code, text] of wrong) {
    await writeFile(file, text);
    await cli.fails(t, code, "host", "import-configuration", file);
  }
  await cli.fails(t, "NOT_FOUND", "host", "import-configuration", `${file}.not`);
});
