/**
 * G3: whatever a crash or a power loss leaves of a merge, the base's checksums make
 * neither good blocks look rotten nor rotten ones good.
 */
import t, { type Test } from "tap";
import type { Damage } from "#lib/model/verification.js";
import { type CrashState, crashStates, killStates } from "./support/crash-states.js";
import { MemoryFiles } from "./support/memory-files.js";
import { type FileEvent, RecordingFiles } from "./support/recording-files.js";
import { GRANULARITY, openPlainStore, Scene } from "./support/scene.js";
import { verified } from "./support/verified.js";
import { keepNewest } from "./support/keep-newest.js";

const ROOT = "/store";
const LIMIT_MS = 120_000;
t.setTimeout(LIMIT_MS);

async function story(scene: Scene): Promise<readonly FileEvent[]> {
  const files = new RecordingFiles();
  const store = await openPlainStore(ROOT, files);
  await store.enable(scene.vm, scene.generation);
  let parent: string | null = null;
  const add = async (blocks: Parameters<Scene["point"]>[2]) => {
    parent = (await scene.point(store, parent, blocks)).pointId;
  };
  await add({ 0: { 0: 11, 1: 12, 2: 13, 3: 14 }, 1: { 0: 15 } });
  await add({ 0: { 1: 22, 2: 0 } });
  await add({ 0: { 2: 32 }, 1: { 0: 0, 1: 33 } });
  files.mark("the first merge");
  await keepNewest(store, scene.vm.vmId, 2);
  await add({ 0: { 3: 0, 4: 41 } });
  files.mark("the second merge");
  await keepNewest(store, scene.vm.vmId, 1);
  return files.events;
}

async function damageIn(t: Test, scene: Scene, tree: CrashState["tree"], merge: boolean) {
  const files = new MemoryFiles(tree);
  const store = await openPlainStore(ROOT, files);
  if (merge) await keepNewest(store, scene.vm.vmId, 1);
  const { damage } = await verified(t, store, scene.vm.vmId);
  await store.close();
  return { damage, files };
}

/** A flipped bit in each block of the bases: never one that passes for good. */
async function missedRot(t: Test, scene: Scene, files: MemoryFiles): Promise<string[]> {
  const missed: string[] = [];
  const bases = files.below(ROOT).filter((path) => path.endsWith("base.raw"));
  for (const path of bases) {
    const whole = files.tree.get(path) ?? Buffer.alloc(0);
    for (let at = 0; at < whole.length; at += GRANULARITY) {
      const rotten = Buffer.from(whole);
      rotten[at + 9] = (rotten[at + 9] ?? 0) ^ 1;
      const tree = new Map(files.tree).set(path, rotten);
      const found = (await damageIn(t, scene, tree, false)).damage;
      const isFound = found.some(
        ({ kind, extents }: Damage) => kind === "base" && extents[0] === at,
      );
      if (!isFound) missed.push(`${path} at ${at}`);
    }
  }
  return missed;
}

void t.test(
  "G3: a crash at any step of a merge leaves nothing that looks rotten",
  { timeout: LIMIT_MS },
  async (t) => {
    const scene = new Scene();
    const events = await story(scene);
    const first = events.findIndex(({ type }) => type === "mark");
    let count = 0;
    for (const state of crashStates(events, first)) {
      count += 1;
      const before = await damageIn(t, scene, state.tree, false);
      if (before.damage.length > 0)
        t.same(before.damage, [], `${state.description}: found at once`);
      const after = await damageIn(t, scene, state.tree, true);
      if (after.damage.length > 0) t.same(after.damage, [], `${state.description}: then merged`);
    }
    t.ok(count > 2 * (events.length - first), `${count} states`);
  },
);

void t.test(
  "a merge that was repeated after a crash misses no rot",
  { timeout: LIMIT_MS },
  async (t) => {
    const scene = new Scene();
    const events = await story(scene);
    const first = events.findIndex(({ type }) => type === "mark");
    for (const state of killStates(events, first)) {
      const { files } = await damageIn(t, scene, state.tree, true);
      t.same(await missedRot(t, scene, files), [], state.description);
    }
  },
);
