/**
 * A line that drops, resets and stalls, hosts that hang and are killed, a store
 * without room: after each, replication goes on with what changed alone, and
 * every recovery point that was acknowledged is what the guest's journal says.
 *
 * The hosts run in network namespaces of the test, the replica's store in a small
 * file system of its own. TIDEMARK_SOAK=1 makes 200 rounds of it.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import t from "tap";
import { NetworkLab, networkLabIsMissing, REPLICA_ADDRESS } from "../support/network-lab.js";
import { PLAIN_NODE } from "../support/plain-node.js";
import { ReplicatedVm } from "../support/replicated-vm.js";
import { SeededRandom } from "../support/seeded-random.js";

const SEED = Number(process.env["TIDEMARK_SEED"] ?? "31");
const isSoak = process.env["TIDEMARK_SOAK"] === "1";
const ROUNDS = isSoak ? 200 : 11;
const PROXY = fileURLToPath(new URL("../support/stalling-proxy.ts", import.meta.url));
const JUDGED_EACH_ROUNDS = 20;

t.setTimeout(isSoak ? 3_000_000 : 600_000);

interface Scene {
  readonly vm: ReplicatedVm;
  readonly lab: NetworkLab;
  readonly proxy: ChildProcessByStdio<Writable, Readable, null>;
  /** How long a fault lasts. */
  readonly holdMs: () => number;
}

type Fault = readonly [name: string, happen: (scene: Scene) => Promise<void>];

const lineFault =
  (fault: Parameters<NetworkLab["breakLine"]>[0]) =>
  async ({ lab, holdMs }: Scene): Promise<void> => {
    await lab.breakLine(fault);
    await sleep(holdMs());
    await lab.mendLine();
  };

const FAULTS: readonly Fault[] = [
  ["all packets dropped", lineFault("all")],
  ["what goes to the replica dropped", lineFault("to the replica")],
  ["what the replica answers dropped", lineFault("to the primary")],
  ["connections reset by the filter", lineFault("reset")],
  [
    "a proxy that stalls",
    async ({ proxy, holdMs }) => {
      proxy.stdin.write("stall\n");
      await sleep(holdMs());
      proxy.stdin.write("go\n");
    },
  ],
  ["a proxy that cuts", async ({ proxy }) => void proxy.stdin.write("cut\n")],
  [
    "no room in the replica's store",
    async ({ lab, holdMs }) => {
      await lab.fillStore();
      await sleep(holdMs());
      await lab.emptyStore();
    },
  ],
  [
    "a replica that hangs",
    async ({ vm, holdMs }) => {
      vm.replica.pause();
      await sleep(holdMs());
      vm.replica.resume();
    },
  ],
  [
    "a primary that hangs",
    async ({ vm, holdMs }) => {
      vm.primary.pause();
      await sleep(holdMs());
      vm.primary.resume();
    },
  ],
  [
    "the replica killed",
    async ({ vm }) => {
      await vm.replica.kill();
      await vm.replica.start();
    },
  ],
  [
    "the primary killed",
    async ({ vm }) => {
      await vm.primary.kill();
      await vm.startPrimary();
    },
  ],
];

async function startScene(random: SeededRandom): Promise<Scene> {
  let lab: NetworkLab | null = null;
  let proxy: Scene["proxy"] | null = null;
  t.teardown(() => lab?.[Symbol.asyncDispose]());
  const vm = await ReplicatedVm.start(SEED, {
    bytesPerSecond: 2 << 20,
    prepare: async (directory) => {
      const store = join(directory, "replica", "replica");
      await mkdir(store, { recursive: true });
      lab = await NetworkLab.start(directory, store);
    },
    settings: (host) => ({
      entry: lab?.[host].entry ?? [],
      // Without a floor, so that a full store costs no point that is looked for at the end.
      ...(host === "replica" ? { address: REPLICA_ADDRESS, freeSpaceFloorBytes: 0 } : {}),
    }),
    replicaUrl: async ({ peerPort }) => {
      const [command = "", ...entry] = lab?.primary.entry ?? [];
      const program = [...PLAIN_NODE, "--import", "tsx", PROXY];
      proxy = spawn(command, [...entry, ...program, REPLICA_ADDRESS, String(peerPort)], {
        stdio: ["pipe", "pipe", "inherit"],
      });
      for await (const said of proxy.stdout) {
        const { port } = JSON.parse(String(said)) as { port: number };
        return `https://127.0.0.1:${port}`;
      }
      throw new Error("the proxy ended");
    },
  });
  if (lab === null || proxy === null) throw new Error("the scene was not made");
  return { vm, lab, proxy, holdMs: () => 200 + random.below(isSoak ? 4000 : 1500) };
}

async function endScene({ vm, proxy }: Scene): Promise<void> {
  vm.replica.resume();
  vm.primary.resume();
  proxy.stdin.end();
  await vm.close();
}

void t.test(
  "whatever the line and the hosts do, every recovery point is right",
  {
    skip: await networkLabIsMissing(),
  },
  async (t) => {
    const random = new SeededRandom(SEED);
    const scene = await startScene(random);
    t.teardown(() => endScene(scene));
    const { vm } = scene;
    const judged = new Set<string>();
    for (let round = 0; round < ROUNDS; round += 1) {
      const fault = FAULTS[isSoak ? random.below(FAULTS.length) : round % FAULTS.length];
      const [name, happen] = fault ?? ["", async () => undefined];
      await sleep(random.below(900));
      await happen(scene);
      const next = await vm.nextPoint();
      t.equal(next.kind, "cycle", `${round}: after "${name}" replication goes on where it was`);
      if (round % JUDGED_EACH_ROUNDS === 0) t.same(await vm.faults(judged), [], "points are right");
    }
    t.same(vm.oversized, [], "no cycle takes more than was written since the one before");
    t.same(await vm.faults(new Set()), [], "the acknowledged points are there and right");
    t.ok(vm.acknowledged.size >= ROUNDS, `${vm.acknowledged.size} acknowledged points`);
  },
);
