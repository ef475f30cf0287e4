/** G3, T24: kill -9 of the replica at named steps; what was acknowledged is there, whole. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import t, { type Test } from "tap";
import { binding } from "#lib/tracking/binding.js";
import { PLAIN_NODE } from "../support/plain-node.js";
import { contentOfPoint } from "./support/numbered-points.js";
import { openNativeStore, temporaryDirectory } from "./support/native-scene.js";
import { readBlocks, Scene } from "./support/scene.js";

const LIMIT_MS = 300_000;
t.setTimeout(LIMIT_MS);

const CHILD = fileURLToPath(new URL("support/replica-child.ts", import.meta.url));
/** More passages than a point has, so that later points are hit too. */
const PASSAGES = [1, 2, 3, 5, 11];
const STEPS = ["layer.append", "layer.sync", "layer.seal", "commit", "sync", "rename"];

interface Acknowledged {
  readonly sequence: number;
  readonly pointId: string;
}

/** Runs until the failpoint kills it; answers what it said was committed. */
async function runUntilKilled(
  root: string,
  scene: Scene,
  failpoint: string,
): Promise<{ readonly acknowledged: Acknowledged[]; readonly signal: string | null }> {
  const { vm, generation } = scene;
  const parameters = [root, JSON.stringify(vm), JSON.stringify(generation), "12"];
  const [program, ...node] = PLAIN_NODE;
  const child = spawn(program, [...node, "--import", "tsx", CHILD, ...parameters], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, TIDEMARK_FAILPOINT: failpoint },
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
  });
  const [, signal] = (await once(child, "close")) as [number | null, string | null];
  const acknowledged = output
    .split("\n")
    .slice(0, -1)
    .map((line) => line.split(" "))
    .map(([sequence, pointId]) => ({ sequence: Number(sequence), pointId: pointId ?? "" }));
  return { acknowledged, signal };
}

async function checkPoints(
  t: Test,
  root: string,
  scene: Scene,
  all: readonly Acknowledged[],
): Promise<void> {
  const store = await openNativeStore(t, root);
  const { vmId } = scene.vm;
  const points = all.length === 0 ? [] : await store.points(vmId);
  const there = new Map(points.map(({ sequence, pointId }) => [sequence, pointId]));
  for (const { sequence, pointId } of all) {
    if (there.get(sequence) !== pointId) t.fail(`acknowledged point ${sequence} is not there`);
  }
  for (const { sequence, pointId } of points) {
    const found = await readBlocks(store, binding, vmId, pointId);
    const isRight = JSON.stringify(found) === JSON.stringify(contentOfPoint(sequence).values);
    if (!isRight) t.fail(`point ${sequence} holds ${found.join("|")}`);
  }
  await store.close();
}

for (const step of STEPS) {
  void t.test(`killed at "${step}", the replica goes on with every point`, async (t) => {
    const root = await temporaryDirectory(t);
    const scene = new Scene();
    const all: Acknowledged[] = [];
    for (const passage of PASSAGES) {
      const { acknowledged, signal } = await runUntilKilled(root, scene, `${step}:${passage}`);
      t.equal(signal, "SIGKILL", `hit at passage ${passage}`);
      all.push(...acknowledged);
      await checkPoints(t, root, scene, all);
    }
    t.ok(all.length > 0, `${all.length} acknowledged points`);
  });
}
