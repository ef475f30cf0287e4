/**
 * T24, T25, T27: a recovery point exists whole or not at all, whatever a crash
 * or a power loss leaves of the files, and one that was acknowledged is there.
 */
import t from "tap";
import type { DeltaHeader } from "#lib/model/delta.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import type { LayerNative } from "#lib/replica/replica-tools.js";
import type { PlainSegment } from "../contracts/segment-bytes.js";
import { type CrashState, crashStates } from "./support/crash-states.js";
import { MemoryFiles } from "./support/memory-files.js";
import { plainLayers } from "./support/plain-layers.js";
import { type FileEvent, RecordingFiles } from "./support/recording-files.js";
import { type Blocks, ExpectedDisks, openPlainStore, readBlocks, Scene } from "./support/scene.js";

const ROOT = "/store";
const LIMIT_MS = 120_000;
t.setTimeout(LIMIT_MS);

/** What one commit of the story adds, in the order of the commits. */
interface Step {
  readonly header: DeltaHeader;
  readonly segments: readonly PlainSegment[];
  /** The points that are there once it is acknowledged. */
  readonly pointIds: readonly string[];
  readonly expected: ReadonlyMap<string, ExpectedDisks>;
}

interface Story {
  readonly scene: Scene;
  readonly steps: Step[];
  readonly events: readonly FileEvent[];
}

type Tell = (step: Step) => void;

/** Runs the story on recorded files; `tell` notes what the primary has been answered. */
async function record(
  play: (scene: Scene, store: ReplicaStore, tell: Tell) => Promise<void>,
): Promise<Story> {
  const files = new RecordingFiles();
  const scene = new Scene();
  const steps: Step[] = [];
  const store = await openPlainStore(ROOT, files);
  await store.enable(scene.vm, scene.generation);
  await play(scene, store, (step) => {
    files.mark(steps.length);
    steps.push(step);
  });
  await store.close();
  return { scene, steps, events: files.events };
}

async function deliverAndTell(
  scene: Scene,
  store: ReplicaStore,
  tell: Tell,
  before: Step | undefined,
  header: DeltaHeader,
  blocks: Blocks,
  staged: readonly Blocks[] = [],
): Promise<Step> {
  const segments = scene.segments(header.deltaId, blocks);
  await scene.send(store, header, segments);
  const point = await scene.commit(store, header, segments);
  const pointIds = [...(before?.pointIds ?? [])];
  const expected = new Map(before?.expected);
  if (point !== null && point.pointId === header.deltaId) {
    const parent = expected.get(pointIds.at(-1) ?? "") ?? new ExpectedDisks();
    expected.set(
      point.pointId,
      [...staged, blocks].reduce((disks, b) => disks.with(b), parent),
    );
    pointIds.push(point.pointId);
  }
  const step = {
    header: { ...header, segmentCount: segments.length },
    segments,
    pointIds,
    expected,
  };
  tell(step);
  return step;
}

/** Points, a staging session with two passes and its closing point, an empty cycle. */
async function wholeStory(scene: Scene, store: ReplicaStore, tell: Tell): Promise<void> {
  const next = (
    before: Step | undefined,
    parts: Partial<DeltaHeader>,
    b: Blocks,
    staged?: Blocks[],
  ) => {
    const parentPointId = before?.pointIds.at(-1) ?? null;
    const header = scene.header({ parentPointId, ...parts });
    return deliverAndTell(scene, store, tell, before, header, b, staged);
  };
  const first = await next(undefined, {}, { 0: { 0: 11, 1: 12, 2: 13 }, 1: { 0: 14 } });
  const second = await next(first, {}, { 0: { 1: 22, 2: 0 } });
  const stagingSessionId = await store.openStaging(scene.vm.vmId, scene.generation);
  const passes: Blocks[] = [
    { 0: { 0: 31, 3: 32 }, 1: { 5: 33 } },
    { 0: { 3: 34 }, 1: { 0: 0 } },
  ];
  let latest = second;
  for (const pass of passes)
    latest = await next(latest, { kind: "staging", stagingSessionId }, pass);
  const closing = await next(latest, { stagingSessionId }, { 1: { 5: 41, 6: 42 } }, passes);
  const empty = await next(closing, {}, {});
  await next(empty, {}, { 0: { 7: 51 } });
}

/** The point lists that the story allows after so many events: the last answered, or one more. */
function allowedSteps(story: Story, state: CrashState): readonly (Step | null)[] {
  const done = story.events.slice(0, state.eventCount);
  const told = done.filter((event) => event.type === "mark").length;
  return [story.steps[told - 1] ?? null, story.steps[told] ?? null];
}

async function findFailure(story: Story, state: CrashState): Promise<string | null> {
  const { scene } = story;
  const files = new MemoryFiles(state.tree);
  const native = plainLayers(files);
  await using store = await openPlainStore(ROOT, files);
  const [answered, next] = allowedSteps(story, state);
  const pointIds = await store.points(scene.vm.vmId).then(
    (points) => points.map(({ pointId }) => pointId),
    (error: unknown) => (answered === null ? [] : [String(error)]),
  );
  const allowed = [answered?.pointIds ?? [], next?.pointIds ?? []];
  if (!allowed.some((one) => one.join() === pointIds.join())) return `points ${pointIds.join()}`;
  const expected = next?.expected ?? answered?.expected;
  for (const pointId of pointIds) {
    const found = await readBlocks(store, native, scene.vm.vmId, pointId);
    const want = expected?.get(pointId)?.values;
    if (JSON.stringify(found) !== JSON.stringify(want))
      return `${pointId} holds ${found.join("|")}`;
  }
  return next === null || next === undefined ? null : await goOn(story, store, native, next);
}

/** The primary repeats what was not answered: it must get there, without a full copy. */
async function goOn(
  story: Story,
  store: ReplicaStore,
  native: LayerNative,
  step: Step,
): Promise<string | null> {
  const { scene } = story;
  await store.enable(scene.vm, scene.generation);
  const { stagingSessionId: held } = await store.status(scene.vm.vmId);
  const { stagingSessionId } = step.header;
  const head = (await store.points(scene.vm.vmId)).at(-1)?.pointId ?? null;
  const isCommitted = head === step.header.deltaId;
  if (!isCommitted && stagingSessionId !== null && held !== stagingSessionId) {
    const isFirstPass = story.steps.findIndex((s) => s.header.stagingSessionId !== null);
    if (story.steps.indexOf(step) > isFirstPass) return "the staging session is lost";
    return null;
  }
  if (!isCommitted) await scene.send(store, step.header, step.segments);
  await scene.commit(store, step.header, step.segments);
  const pointIds = (await store.points(scene.vm.vmId)).map(({ pointId }) => pointId);
  if (pointIds.join() !== step.pointIds.join()) return `after going on: ${pointIds.join()}`;
  for (const pointId of pointIds) {
    const found = await readBlocks(store, native, scene.vm.vmId, pointId);
    const want = step.expected.get(pointId)?.values;
    if (JSON.stringify(found) !== JSON.stringify(want)) return `went on to ${found.join("|")}`;
  }
  return null;
}

void t.test(
  "T24 T25 T27: after a crash at any step there is the old head or the new one, whole",
  { timeout: LIMIT_MS },
  async (t) => {
    const story = await record(wholeStory);
    let count = 0;
    for (const state of crashStates(story.events)) {
      count += 1;
      const failure = await findFailure(story, state);
      if (failure !== null) t.fail(`${state.description}: ${failure}`);
    }
    t.ok(count > 500, `${count} states of ${story.events.length} events`);
  },
);
