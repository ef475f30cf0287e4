/** Domains of a real libvirtd: the contract, what is on the disk afterwards, and what libvirt finds. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import t, { type Test } from "tap";
import { LibvirtHypervisor } from "#lib/index.js";
import { hypervisorContract } from "../contracts/hypervisor.js";
import { PrivateLibvirt } from "../support/private-libvirt.js";
import { PLAIN_NODE } from "../support/plain-node.js";
import { LibvirtScene } from "./libvirt-scene.js";

const missing = await PrivateLibvirt.missing();
const skip = missing === null ? {} : { skip: missing };
const libvirt = missing === null ? await PrivateLibvirt.start(t) : null;
const never = new AbortController().signal;
const LIBRARY = import.meta.resolve("#lib/index.js");

if (libvirt !== null) {
  void hypervisorContract(t, "libvirt", (t) => LibvirtScene.make(t, libvirt));
}

/** A process of its own that inserts or removes the filter. */
const SWITCHING = `
const [library, order, uri, filter] = process.argv.slice(1);
const { LibvirtHypervisor } = await import(library);
const never = new AbortController().signal;
const vm = await new LibvirtHypervisor({ uri }).connect("web", never);
await vm[order]("vda", JSON.parse(filter), never);
await vm.close();
`;

async function makeScene(t: Test): Promise<LibvirtScene> {
  if (libvirt === null) throw new Error("libvirt is missing");
  return LibvirtScene.make(t, libvirt);
}

/** Killed at the failpoint. */
async function killedAt(t: Test, scene: LibvirtScene, order: string, failpoint: string) {
  const { uri } = scene.libvirt;
  const args = ["--input-type=module", "-e", SWITCHING, LIBRARY, order, uri];
  const env = { ...process.env, TIDEMARK_FAILPOINT: `${failpoint}:1` };
  const child = spawn(process.execPath, [...args, JSON.stringify(scene.filter)], {
    env,
    stdio: "inherit",
  });
  const [, signal] = (await once(child, "exit")) as [number | null, string | null];
  t.equal(signal, "SIGKILL", `${order} comes to ${failpoint}`);
}

void t.test("nothing is copied or cleared; libvirt finds its nodes again", skip, async (t) => {
  const scene = await makeScene(t);
  const [before, nodes] = [await readFile(scene.disk.path), await scene.nodes()];
  await using vm = await scene.hypervisor.connect("web", never);
  await vm.insertFilter("vda", scene.filter, never);
  t.ok(before.equals(await readFile(scene.disk.path)), "in");
  t.equal(scene.disk.native.liveBlocks(), 0, "and nothing came through the filter");
  await scene.disk.lockImage("exclusive");
  t.match(await scene.nodes(), [/^libvirt-\d+-format nbd/, /^tidemark-filter-/]);
  t.equal(await scene.guestWrites(7, 4096, 4096), "");
  t.equal(scene.disk.native.liveBlocks(), 1, "what the guest writes is marked");
  await scene.disk.lockImage("none");
  await vm.removeFilter("vda", scene.filter, never);
  t.same(await scene.nodes(), nodes);
  const after = await readFile(scene.disk.path);
  t.ok(after.subarray(4096, 8192).every((byte) => byte === 7));
  before.copy(after, 4096, 4096, 8192);
  t.ok(before.equals(after), "out");
});

void t.test(
  "libvirt's snapshot leaves the filter, its commit comes back to it",
  skip,
  async (t) => {
    const scene = await makeScene(t);
    await using vm = await scene.hypervisor.connect("web", never);
    await vm.insertFilter("vda", scene.filter, never);
    const nodes = await scene.nodes();
    await scene.bypass("vda");
    t.equal(await scene.guestWrites(9, 8192, 4096), "");
    t.equal(scene.disk.native.liveBlocks(), 0);
    await scene.libvirt.virsh("blockcommit", "web", "vda", "--active", "--wait", "--pivot");
    t.same(await scene.nodes(), nodes);
    t.ok(scene.disk.native.liveBlocks() > 0, "the commit is marked");
    const content = await readFile(scene.disk.path);
    t.ok(content.subarray(8192, 12_288).every((byte) => byte === 9));
  },
);

void t.test("killed at any step, the next process ends it", skip, async (t) => {
  const scene = await makeScene(t);
  const nodes = await scene.nodes();
  for (const [pattern, step] of ["filter.added", "filter.switched"].entries()) {
    await killedAt(t, scene, "insertFilter", step);
    t.equal(await scene.guestWrites(pattern, 0, 4096), "");
    await using vm = await scene.hypervisor.connect("web", never);
    await vm.insertFilter("vda", scene.filter, never);
    t.match(await scene.nodes(), [/^libvirt-\d+-format nbd/, /^tidemark-filter-/]);
    t.equal((await scene.nodes()).length, 2);
    await killedAt(t, scene, "removeFilter", step);
    t.equal(await scene.guestWrites(pattern, 4096, 4096), "");
    await vm.removeFilter("vda", scene.filter, never);
    t.same(await scene.nodes(), nodes, step);
  }
});

void t.test("where there is no libvirt, or no virsh, it says so", skip, async (t) => {
  const nowhere = new LibvirtHypervisor({ uri: "qemu+unix:///session?socket=/nowhere" });
  await t.rejects(nowhere.connect("web", never), { code: "UNREACHABLE" });
  const [program, ...args] = PLAIN_NODE;
  const missing = `
const { LibvirtHypervisor } = await import(process.argv[1]);
const failure = await new LibvirtHypervisor().connect("web", new AbortController().signal).catch((e) => e);
process.exitCode = failure.code === "UNSUPPORTED" && failure.hint.includes("libvirt-clients") ? 0 : 1;`;
  const child = spawn(program, [...args, "--input-type=module", "-e", missing, LIBRARY], {
    env: { PATH: "/nowhere" },
    stdio: "inherit",
  });
  t.same(await once(child, "exit"), [0, null]);
});
