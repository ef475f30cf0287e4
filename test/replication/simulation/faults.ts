import type { Clock } from "#lib/model/clock.js";
import type { SegmentSource } from "#lib/model/delta.js";
import { TidemarkError } from "#lib/model/errors.js";
import type { ReplicaEndpoint } from "#lib/model/replica-endpoint.js";
import type { StateStore } from "#lib/model/state-store.js";
import type { TargetChanges, VmTracker } from "#lib/model/vm-tracker.js";
import type { Incarnation } from "./incarnation.js";
import type { Random } from "./random.js";

/** How likely what is; all zero once the weather is calm. */
export interface Weather {
  network: number;
  store: number;
  tracker: number;
  isReplicaDown: boolean;
  /** What needs room there is refused, before or after a part of it was done. */
  isReplicaFull: boolean;
}

export const CALM: Weather = {
  network: 0,
  store: 0,
  tracker: 0,
  isReplicaDown: false,
  isReplicaFull: false,
};

export interface World {
  readonly clock: Clock;
  readonly random: Random;
  readonly weather: Weather;
}

/** Short and long waits, most of them none: every gap between two steps gets its turn. */
async function wait({ clock, random }: World, longestMs: number): Promise<void> {
  if (random.chance(0.6)) return;
  await clock.sleep(random.below(longestMs) + 1);
}

const unreachable = () => new TidemarkError("UNREACHABLE", "the line is down");

/** The network between the engine and a replica. */
export function faultyEndpoint(
  world: World,
  life: Incarnation,
  inner: ReplicaEndpoint,
): ReplicaEndpoint {
  const call = <T>(effect: () => Promise<T>, signal?: AbortSignal): Promise<T> =>
    life.answer(() => untilAborted(signal, overTheLine(world, effect)));
  const takingRoom = <T>(effect: () => Promise<T>, signal?: AbortSignal): Promise<T> =>
    call(() => withRoom(world, effect), signal);
  return {
    enable: (vm, generation, s) => call(() => inner.enable(vm, generation), s),
    status: (vmId, s) => call(() => inner.status(vmId), s),
    openStaging: (vmId, generation, s) => takingRoom(() => inner.openStaging(vmId, generation), s),
    openDelta: (header, s) => takingRoom(() => inner.openDelta(header), s),
    commit: (request, s) => takingRoom(() => inner.commit(request), s),
    abandon: (vmId, deltaId, s) => call(() => inner.abandon(vmId, deltaId), s),
    deleteVm: (vmId, generation, s) => call(() => inner.deleteVm(vmId, generation), s),
    takeReturned: (request, s) => call(() => inner.takeReturned(request), s),
    succeed: (succession, s) => call(() => inner.succeed(succession), s),
    points: (vmId, s) => call(() => inner.points(vmId), s),
    blockHashes: (request, s) => call(() => inner.blockHashes(request), s),
    putSegment: (source, s) =>
      life.answer(async () => {
        await wait(world, 20);
        const sent = await frozen(world, source, s);
        return untilAborted(
          s,
          overTheLine(world, () => withRoom(world, () => inner.putSegment(sent))),
        );
      }),
  };
}

async function overTheLine<T>(world: World, effect: () => Promise<T>): Promise<T> {
  const { clock, random, weather } = world;
  await wait(world, 40);
  if (weather.isReplicaDown) throw unreachable();
  if (!random.chance(weather.network)) {
    const result = await effect();
    await wait(world, 40);
    return result;
  }
  const later = (longestMs: number) =>
    void clock.sleep(random.below(longestMs)).then(effect).catch(ignored);
  switch (random.below(5)) {
    case 0:
      throw unreachable();
    case 1:
      later(3000);
      throw unreachable();
    case 2:
      await effect();
      throw unreachable();
    case 3:
      await clock.sleep(random.below(4000));
      throw new TidemarkError("TIMED_OUT", "no answer in time");
    default: {
      const result = await effect();
      later(2000);
      return result;
    }
  }
}

async function withRoom<T>({ weather }: World, effect: () => Promise<T>): Promise<T> {
  if (weather.isReplicaFull) throw new TidemarkError("NO_SPACE", "there is no room");
  return effect();
}

function ignored(): void {}

function untilAborted<T>(signal: AbortSignal | undefined, work: Promise<T>): Promise<T> {
  if (signal === undefined) return work;
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

/** The segment as it was read when it was sent; sometimes damaged on its way. */
async function frozen(
  { random, weather }: World,
  source: SegmentSource,
  signal: AbortSignal | undefined,
): Promise<SegmentSource> {
  const pieces: Uint8Array[] = [];
  for await (const piece of source.records(signal)) pieces.push(Uint8Array.from(piece));
  const first = pieces[0];
  if (first !== undefined && random.chance(weather.network / 4)) {
    const position = random.below(first.length);
    first[position] = (first[position] ?? 0) ^ (1 << random.below(8));
  }
  return {
    ...source,
    async *records() {
      yield* pieces;
    },
  };
}

const ioError = () => new TidemarkError("IO_ERROR", "the disk has a bad day");

export function faultyStore(world: World, life: Incarnation, inner: StateStore): StateStore {
  const call = <T>(effect: () => Promise<T>): Promise<T> =>
    life.answer(async () => {
      const { random, weather } = world;
      await wait(world, 5);
      const isBad = random.chance(weather.store);
      if (isBad && random.chance(0.5)) throw ioError();
      const result = await effect();
      if (isBad) throw ioError();
      await wait(world, 5);
      return result;
    });
  return {
    get: (key) => call(() => inner.get(key)),
    list: (prefix) => inner.list(prefix),
    put: (key, value, version) =>
      call(async () => {
        // Who comes after it has read which there are by then; a late update it finds itself.
        const isTooLate = version === 0 && life.isDead;
        return isTooLate ? 0 : inner.put(key, value, version);
      }),
    delete: (key, version) => call(() => inner.delete(key, version)),
    close: () => inner.close(),
  };
}

/** Letting guests reach the disks, or not: takes time, and may fail before or after its effect. */
export function faultyServing(
  world: World,
  life: Incarnation,
  serve: (isServed: boolean) => Promise<void>,
): (vmId: string, isServed: boolean) => Promise<void> {
  return (_vmId, isServed) =>
    life.answer(async () => {
      await wait(world, 20);
      if (life.isDead) return;
      const isBad = world.random.chance(world.weather.store);
      if (isBad && world.random.chance(0.5)) throw ioError();
      await serve(isServed);
      if (isBad) throw ioError();
      await wait(world, 20);
    });
}

/** A tracker whose steps take time and sometimes fail before their effect. */
export function faultyTracker(
  world: World,
  life: Incarnation,
  inner: VmTracker,
  onCut: (changes: TargetChanges) => void,
): VmTracker {
  const call = <T>(effect: () => Promise<T>, error = ioError): Promise<T> =>
    life.answer(async () => {
      await wait(world, 5);
      // The process died while this was on its way to the disks.
      if (life.isDead) return new Promise<T>(() => {});
      if (world.random.chance(world.weather.tracker)) throw error();
      const result = await effect();
      await wait(world, 5);
      return result;
    });
  const timedOut = () => new TidemarkError("TIMED_OUT", "the gate did not open");
  const cut = (take: () => Promise<TargetChanges>) =>
    call(async () => {
      const changes = await take();
      onCut(changes);
      return faultyChanges(call, changes);
    }, timedOut);
  return {
    get disks() {
      return inner.disks;
    },
    hasTarget: (id) => call(() => inner.hasTarget(id)),
    addTarget: (id, start, diskIds) => call(() => inner.addTarget(id, start, diskIds)),
    compareSuspects: (id, ask, options) => call(() => inner.compareSuspects(id, ask, options)),
    compareContent: (id, disk, ask, range) =>
      call(() => inner.compareContent(id, disk, ask, range)),
    markPending: (id, disk, extents) => call(() => inner.markPending(id, disk, extents)),
    readMarks: (id) => call(() => inner.readMarks(id)),
    addMarks: (id, marks) => call(() => inner.addMarks(id, marks)),
    removeTarget: (id, diskIds) => call(() => inner.removeTarget(id, diskIds)),
    markAllocated: (id) => call(() => inner.markAllocated(id)),
    checkpoint: (id, options) => cut(() => inner.checkpoint(id, options)),
    drain: (id, options) => cut(() => inner.drain(id, options)),
    unstage: (id) => call(() => inner.unstage(id)),
    commitInFlight: (id) => call(() => inner.commitInFlight(id)),
    progress: (id) => life.answer(() => inner.progress(id)),
  };
}

function faultyChanges(
  call: (effect: () => Promise<void>) => Promise<void>,
  inner: TargetChanges,
): TargetChanges {
  return {
    cut: inner.cut,
    dirtyBytes: inner.dirtyBytes,
    segments: inner.segments,
    source: (deltaId, plan) => inner.source(deltaId, plan),
    release: (plan) => inner.release(plan),
    brokenReason: () => inner.brokenReason(),
    commit: (pointId) => call(() => inner.commit(pointId)),
    giveBack: () => call(() => inner.giveBack()),
    stage: () => call(() => inner.stage()),
  };
}
