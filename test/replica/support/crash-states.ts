/**
 * What a disk may hold after the power went: every prefix of the trace, with
 * what was not synced by then lost as a whole, there as a whole, and each piece
 * of it alone lost or alone there. A file's content that was not synced may be
 * all, nothing, or a part.
 */
import { createHash } from "node:crypto";
import { dirname } from "node:path";
import type { FileEvent } from "./recording-files.js";

export interface CrashState {
  /** How many events had happened. */
  readonly eventCount: number;
  readonly description: string;
  /** The files' content by path; null for a directory. */
  readonly tree: ReadonlyMap<string, Buffer | null>;
}

type Fate = "lost" | "torn" | "both";
/** Of events that were not synced, by their index. */
type Fates = ReadonlyMap<number, Fate>;
type Choice = readonly [description: string, fates: Fates];

const ALL_THERE: Choice = ["all of it there", new Map()];

/**
 * From `fromCount` events on; each tree once for each thing that the caller has been told,
 * since nothing else tells what must be there.
 */
export function crashStates(
  events: readonly FileEvent[],
  fromCount = 0,
): Generator<CrashState, void, void> {
  return distinctStates(events, fromCount, choices);
}

/** What a process leaves that is killed: nothing is lost. */
export function killStates(
  events: readonly FileEvent[],
  fromCount = 0,
): Generator<CrashState, void, void> {
  return distinctStates(events, fromCount, () => [ALL_THERE]);
}

function* distinctStates(
  events: readonly FileEvent[],
  fromCount: number,
  choicesOf: (unsynced: readonly number[]) => Iterable<Choice>,
): Generator<CrashState, void, void> {
  const seen = new Set<string>();
  for (let eventCount = fromCount; eventCount <= events.length; eventCount += 1) {
    const done = events.slice(0, eventCount);
    if (done.at(-1)?.type === "mark") seen.clear();
    for (const [description, fates] of choicesOf(unsyncedEvents(done))) {
      const tree = replay(done, fates);
      const key = keyOf(tree);
      if (seen.has(key)) continue;
      seen.add(key);
      yield { eventCount, description: `${eventCount} events, ${description}`, tree };
    }
  }
}

function keyOf(tree: CrashState["tree"]): string {
  const entries = [...tree].map(([path, content]) => `${path}:${content && digestOf(content)}`);
  return createHash("sha1").update(entries.join()).digest("base64");
}

const DIGESTS = new WeakMap<Buffer, string>();

/** Most content is that of an event as it is, in state after state. */
function digestOf(content: Buffer): string {
  const digest = DIGESTS.get(content) ?? createHash("sha1").update(content).digest("base64");
  DIGESTS.set(content, digest);
  return digest;
}

/** Indexes of events whose effect is not durable yet. */
function unsyncedEvents(events: readonly FileEvent[]): readonly number[] {
  const pending = new Set<number>();
  for (const [index, event] of events.entries()) {
    if (event.type === "syncData") drop(pending, (i) => isDataOf(events[i], event.path));
    else if (event.type === "syncDirectory") {
      drop(pending, (i) => isNameIn(events[i], event.path));
    } else if (event.type !== "mark") pending.add(index);
  }
  return [...pending];
}

function drop(pending: Set<number>, matches: (index: number) => boolean): void {
  for (const index of pending) if (matches(index)) pending.delete(index);
}

const isDataOf = (event: FileEvent | undefined, path: string) =>
  (event?.type === "data" || event?.type === "dataAt") && event.path === path;

const isNameIn = (event: FileEvent | undefined, directory: string) =>
  event !== undefined && !isDataOf(event, event.path) && dirname(event.path) === directory;

function* choices(unsynced: readonly number[]): Generator<Choice, void, void> {
  const all = (fate: "lost" | "torn") => new Map(unsynced.map((index) => [index, fate] as const));
  yield ALL_THERE;
  yield ["what was not synced lost", all("lost")];
  for (const index of unsynced) {
    yield [`event ${index} lost`, new Map([[index, "lost"]])];
    yield [`event ${index} torn`, new Map([[index, "torn"]])];
    yield [`event ${index} in both places`, new Map([[index, "both"]])];
    const others = all("lost");
    others.delete(index);
    yield [`only event ${index} there`, others];
  }
}

const NOTHING = Buffer.alloc(0);

function contentOf({ content }: { readonly content: Buffer }, fate: Fate | undefined): Buffer {
  return fate === "torn" ? content.subarray(0, content.length >> 1) : content;
}

/** Files have an identity beside their name: a rename takes the content along. */
function replay(events: readonly FileEvent[], fates: Fates): ReadonlyMap<string, Buffer | null> {
  const names = new Map<string, { content: Buffer } | null>();
  const byPath = new Map<string, { content: Buffer }>();
  for (const [index, event] of events.entries()) {
    const fate = fates.get(index);
    const isLost = fate === "lost";
    if (event.type === "create") {
      const file = { content: NOTHING };
      byPath.set(event.path, file);
      if (!isLost) names.set(event.path, file);
    } else if (event.type === "data") {
      const file = byPath.get(event.path);
      if (file !== undefined) file.content = isLost ? NOTHING : contentOf(event, fate);
    } else if (event.type === "dataAt") {
      const file = byPath.get(event.path);
      if (file === undefined || isLost) continue;
      file.content = Buffer.from(file.content);
      file.content.set(contentOf(event, fate), event.offsetBytes);
    } else if (event.type === "rename") {
      const file = byPath.get(event.from);
      byPath.delete(event.from);
      if (file === undefined) continue;
      byPath.set(event.path, file);
      if (isLost) continue;
      if (names.has(event.from) && fate !== "both") names.delete(event.from);
      names.set(event.path, file);
    } else if (event.type === "mkdir") {
      if (!isLost) names.set(event.path, null);
    } else if (event.type === "remove" || event.type === "rmdir") {
      byPath.delete(event.path);
      if (!isLost) names.delete(event.path);
    }
  }
  return reachable(names);
}

/** A lost directory takes all that is in it along. */
function reachable(
  names: ReadonlyMap<string, { content: Buffer } | null>,
): ReadonlyMap<string, Buffer | null> {
  const tree = new Map<string, Buffer | null>();
  for (const [path, file] of [...names].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const parent = dirname(path);
    if (parent === dirname(parent) || tree.get(parent) === null)
      tree.set(path, file?.content ?? null);
  }
  return tree;
}
