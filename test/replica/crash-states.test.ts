/**
 * T24, T25, T27: a recovery point exists whole or not at all, whatever a crash
 * or a power loss leaves of the files, and one that was acknowledged is there.
 */
import t, { type Test } from "tap";
import type { DeltaHeader } from "#lib/model/delta.js";
import type { PointEdit } from "#lib/replica/point-retention.js";
import type { ReplicaStore } from "#lib/replica/replica-store.js";
import { type CrashState, crashStates } from "./support/crash-states.js";
import { MemoryFiles } from "./support/memory-files.js";
import { plainLayers } from "./support/plain-layers.js";
import { type FileEvent, RecordingFiles } from "./support/recording-files.js";
import { type Blocks, ExpectedDisks, openPlainStore, readBlocks, Scene } from "./support/scene.js";

const ROOT = "/store";
const LIMIT_MS = 600_000;
t.setTimeout(LIMIT_MS);

/** One thing that the store is asked for, in the order of the story. */
interface Step {
  /** The points that are there once it is answered. */
  readonly pointIds: readonly string[];
  /** What each point of the story so far holds. */
  readonly expected: ReadonlyMap<string, ExpectedDisks>;
  /** What its caller does when it was not answered; says what is wrong, or null. */
  readonly repeat: (store: ReplicaStore) => Promise<string | null>;
}

/** Plays a story on recorded files and notes what has been answered when. */
class Player {
  readonly scene = new Scene();
  readonly steps: Step[] = [];
  readonly #files = new RecordingFiles();
  readonly #store: ReplicaStore;

  private constructor(files: RecordingFiles, store: ReplicaStore) {
    this.#files = files;
    this.#store = store;
  }

  static async start(): Promise<Player> {
    const files = new RecordingFiles();
    const player = new Player(files, await openPlainStore(ROOT, files));
    await player.#store.enable(player.scene.vm, player.scene.generation);
    return player;
  }

  get events(): readonly FileEvent[] {
    return this.#files.events;
  }

  get #last(): Pick<Step, "pointIds" | "expected"> {
    return this.steps.at(-1) ?? { pointIds: [], expected: new Map() };
  }

  /** Steps before which a session was asked for: its id was not answered before they began. */
  readonly firstPasses = new Set<number>();

  /** The head that each session was opened at. */
  readonly sessionParents = new Map<string, string | null>();

  async openStaging(): Promise<string> {
    this.firstPasses.add(this.steps.length);
    const { vmId } = this.scene.vm;
    const sessionId = await this.#store.openStaging(vmId, this.scene.generation);
    this.sessionParents.set(sessionId, this.#last.pointIds.at(-1) ?? null);
    return sessionId;
  }

  /** A delta of these blocks; `staged` is what a closing point takes in below them. */
  async deliver(parts: Partial<DeltaHeader>, blocks: Blocks, staged: readonly Blocks[] = []) {
    const parentPointId = this.#last.pointIds.at(-1) ?? null;
    const header = this.scene.header({ parentPointId, ...parts });
    const point = await this.scene.deliver(this.#store, header, blocks);
    const { pointIds, expected } = this.#last;
    const isNew = point?.pointId === header.deltaId;
    const parent = expected.get(parentPointId ?? "") ?? new ExpectedDisks();
    const content = [...staged, blocks].reduce((disks, some) => disks.with(some), parent);
    this.#told({
      pointIds: isNew ? [...pointIds, header.deltaId] : pointIds,
      expected: isNew ? new Map([...expected, [header.deltaId, content]]) : expected,
      repeat: (store) => redeliver(this.scene, store, header, blocks),
    });
  }

  /** Gives up the points of these places in the list: neighbours, so that it is one step. */
  async giveUp(...places: readonly number[]): Promise<void> {
    const { vmId } = this.scene.vm;
    const { pointIds, expected } = this.#last;
    const gone = new Set(places.map((place) => pointIds.at(place) ?? ""));
    await this.#store.retention.giveUp(vmId, () => gone);
    this.#told({
      pointIds: pointIds.filter((pointId) => !gone.has(pointId)),
      expected,
      repeat: async (store) => {
        await store.retention.giveUp(vmId, () => gone);
        return null;
      },
    });
  }

  async merge(): Promise<void> {
    const { vmId } = this.scene.vm;
    await this.#store.retention.merge(vmId);
    this.#told({
      ...this.#last,
      repeat: async (store) => ((await store.retention.merge(vmId)) ? null : "not merged"),
    });
  }

  async edit(place: number, edit: PointEdit): Promise<void> {
    const { vmId } = this.scene.vm;
    const pointId = this.#last.pointIds.at(place) ?? "";
    await this.#store.retention.edit(vmId, pointId, edit);
    this.#told({
      ...this.#last,
      repeat: async (store) => {
        await store.retention.edit(vmId, pointId, edit);
        const found = (await store.retention.list(vmId)).find(
          ({ point }) => point.pointId === pointId,
        );
        return found?.label === edit.label ? null : "the label is not there";
      },
    });
  }

  #told(step: Step): void {
    this.#files.mark(this.steps.length);
    this.steps.push(step);
  }
}

/** Without a full copy: only a session that was never answered may be gone. */
async function redeliver(
  scene: Scene,
  store: ReplicaStore,
  header: DeltaHeader,
  blocks: Blocks,
): Promise<string | null> {
  const { vmId } = scene.vm;
  const segments = scene.segments(header.deltaId, blocks);
  const head = (await store.points(vmId)).at(-1)?.pointId ?? null;
  const { stagingSessionId } = await store.status(vmId);
  const isSessionNeeded = header.stagingSessionId !== null && head === header.parentPointId;
  if (isSessionNeeded && stagingSessionId !== header.stagingSessionId) {
    return header.kind === "staging" ? UNANSWERED_SESSION : "the staging session is lost";
  }
  if (head === header.parentPointId) await scene.send(store, header, segments);
  await scene.commit(store, header, segments);
  return null;
}

const UNANSWERED_SESSION = "the staging session is not there";

async function checkState(t: Test, player: Player, state: CrashState): Promise<void> {
  const done = player.events.slice(0, state.eventCount);
  const toldCount = done.filter((event) => event.type === "mark").length;
  const told = player.steps[toldCount - 1];
  const next = player.steps[toldCount];
  const files = new MemoryFiles(state.tree);
  await using store = await openPlainStore(ROOT, files);
  const { vm, generation } = player.scene;
  if (told === undefined) await store.enable(vm, generation);
  const found = await wrongPoints(player, store, files, [told, next]);
  if (found !== null) t.fail(`${state.description}: ${found}`);
  if (await hasStaleSession(player, store)) t.fail(`${state.description}: a stale session`);
  if (next === undefined) return;
  const refusal = await next.repeat(store);
  if (refusal === UNANSWERED_SESSION && player.firstPasses.has(toldCount)) return;
  const after = refusal ?? (await wrongPoints(player, store, files, [next]));
  if (after !== null) t.fail(`${state.description}: then ${after}`);
}

/** Its layers would lie above newer content, were it taken in. */
async function hasStaleSession(player: Player, store: ReplicaStore): Promise<boolean> {
  const { stagingSessionId, head } = await store.status(player.scene.vm.vmId);
  const parent = player.sessionParents.get(stagingSessionId ?? "");
  return parent !== undefined && parent !== (head?.pointId ?? null);
}

async function wrongPoints(
  player: Player,
  store: ReplicaStore,
  files: MemoryFiles,
  allowed: readonly (Step | undefined)[],
): Promise<string | null> {
  const { vmId } = player.scene.vm;
  const pointIds = (await store.points(vmId)).map(({ pointId }) => pointId);
  const lists = allowed.map((step) => step?.pointIds ?? []);
  if (!lists.some((list) => list.join() === pointIds.join())) return `points ${pointIds.join()}`;
  const expected = new Map(allowed.flatMap((step) => [...(step?.expected ?? [])]));
  for (const pointId of pointIds) {
    const found = await readBlocks(store, plainLayers(files), vmId, pointId);
    const want = expected.get(pointId)?.values;
    if (JSON.stringify(found) !== JSON.stringify(want)) return `${pointId}: ${found.join("|")}`;
  }
  return null;
}

async function checkAllStates(t: Test, player: Player): Promise<void> {
  let count = 0;
  for (const state of crashStates(player.events)) {
    count += 1;
    await checkState(t, player, state);
  }
  t.ok(count > player.events.length, `${count} states of ${player.events.length} events`);
}

void t.test(
  "T24 T25 T27: after a crash at any step of a commit there is the old head or the new one, whole",
  { timeout: LIMIT_MS },
  async (t) => {
    const player = await Player.start();
    await player.deliver({}, { 0: { 0: 11, 1: 12, 2: 13 }, 1: { 0: 14 } });
    await player.deliver({}, { 0: { 1: 22, 2: 0 } });
    const passes: Blocks[] = [
      { 0: { 0: 31, 3: 32 }, 1: { 5: 33 } },
      { 0: { 3: 34 }, 1: { 0: 0 } },
    ];
    const stagingSessionId = await player.openStaging();
    for (const pass of passes) await player.deliver({ kind: "staging", stagingSessionId }, pass);
    await player.deliver({ stagingSessionId }, { 1: { 5: 41, 6: 42 } }, passes);
    await player.deliver({}, {});
    await player.deliver({}, { 0: { 7: 51 } });
    const unused = await player.openStaging();
    await player.deliver({ kind: "staging", stagingSessionId: unused }, { 0: { 7: 61 } });
    await player.deliver({}, { 0: { 7: 71 } });
    await checkAllStates(t, player);
  },
);

void t.test(
  "G5: after a crash at any step of a merge into the base the points that are kept are whole",
  { timeout: LIMIT_MS },
  async (t) => {
    const player = await Player.start();
    await player.deliver({}, { 0: { 0: 11, 1: 12, 2: 13, 3: 14 }, 1: { 0: 15 } });
    await player.deliver({}, { 0: { 1: 22, 2: 0 } });
    await player.deliver({}, { 0: { 2: 32 }, 1: { 0: 0, 1: 33 } });
    await player.giveUp(0);
    await player.merge();
    await player.deliver({}, { 0: { 3: 0, 4: 41 } });
    await player.giveUp(0, 1);
    await player.deliver({}, { 1: { 2: 51 } });
    await player.giveUp(0);
    await player.merge();
    await player.deliver({}, {});
    await checkAllStates(t, player);
  },
);

void t.test(
  "G5 T25: after a crash at any step of thinning the points that are kept are whole",
  { timeout: LIMIT_MS },
  async (t) => {
    const player = await Player.start();
    await player.deliver({}, { 0: { 0: 11, 1: 12, 2: 13 }, 1: { 0: 15 } });
    await player.deliver({}, { 0: { 1: 22, 2: 0 } });
    await player.deliver({}, { 0: { 2: 32, 3: 33 }, 1: { 0: 0 } });
    await player.deliver({}, { 0: { 3: 0, 1: 42 } });
    await player.deliver({}, { 0: { 4: 51 }, 1: { 0: 52 } });
    await player.giveUp(1, 2);
    await player.edit(1, { label: "before the update", isPinned: true });
    await player.merge();
    await player.deliver({}, { 0: { 1: 61 } });
    await player.giveUp(2);
    await player.deliver({}, {});
    await player.giveUp(0);
    await player.merge();
    await player.deliver({}, { 0: { 1: 0 } });
    await checkAllStates(t, player);
  },
);

void t.test(
  "G5 T25: after a crash at any step of thinning, staged layers are with the point that has them",
  { timeout: LIMIT_MS },
  async (t) => {
    const player = await Player.start();
    await player.deliver({}, { 0: { 0: 11, 1: 12, 2: 13 }, 1: { 0: 15 } });
    const passes: Blocks[] = [{ 0: { 0: 21, 3: 22 } }, { 0: { 3: 23 }, 1: { 0: 0 } }];
    const stagingSessionId = await player.openStaging();
    for (const pass of passes) await player.deliver({ kind: "staging", stagingSessionId }, pass);
    await player.deliver({ stagingSessionId }, { 0: { 2: 0 }, 1: { 5: 31 } }, passes);
    await player.deliver({}, { 0: { 1: 41 } });
    await player.giveUp(1);
    await player.merge();
    await player.deliver({}, { 0: { 1: 51 }, 1: { 5: 0 } });
    await checkAllStates(t, player);
  },
);
