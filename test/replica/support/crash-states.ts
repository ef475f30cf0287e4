/**
 * What a disk may hold after the power went: every prefix of the trace, with
 * what was not synced by then lost as a whole, there as a whole, and each piece
 * of it alone lost or alone there. A file's content that was not synced may be
 * all, nothing, or a part.
 */
import { dirname } from "node:path";
import type { FileEvent } from "./recording-files.js";

export interface CrashState {
  /** How many events had happened. */
  readonly eventCount: number;
  readonly description: string;
  /** The files' content by path; null for a directory. */
  readonly tree: ReadonlyMap<string, Buffer | null>;
}

export function* crashStates(events: readonly FileEvent[]): Generator<CrashState> {
  for (let eventCount = 0; eventCount <= events.length; eventCount += 1) {
    const done = events.slice(0, eventCount);
    const unsynced = unsyncedEvents(done);
    const seen = new Set<string>();
    for (const [description, lost] of choices(unsynced)) {
      const tree = replay(done, lost);
      const key = [...tree]
        .map(([path, content]) => `${path}:${content?.toString("base64")}`)
        .join();
      if (seen.has(key)) continue;
      seen.add(key);
      yield { eventCount, description: `${eventCount} events, ${description}`, tree };
    }
  }
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

function* choices(
  unsynced: readonly number[],
): Generator<readonly [string, ReadonlyMap<number, "lost" | "torn" | "both">]> {
  const all = (fate: "lost" | "torn") => new Map(unsynced.map((index) => [index, fate] as const));
  yield ["all of it there", new Map()];
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

/** Files have an identity beside their name: a rename takes the content along. */
function replay(
  events: readonly FileEvent[],
  fates: ReadonlyMap<number, "lost" | "torn" | "both">,
): ReadonlyMap<string, Buffer | null> {
  const names = new Map<string, { content: Buffer } | null>();
  const byPath = new Map<string, { content: Buffer }>();
  for (const [index, event] of events.entries()) {
    const fate = fates.get(index);
    const isLost = fate === "lost";
    if (event.type === "create") {
      const file = { content: Buffer.alloc(0) };
      byPath.set(event.path, file);
      if (!isLost) names.set(event.path, file);
    } else if (event.type === "data") {
      const file = byPath.get(event.path);
      const length = fate === "torn" ? event.content.length >> 1 : event.content.length;
      if (file !== undefined)
        file.content = isLost ? Buffer.alloc(0) : event.content.subarray(0, length);
    } else if (event.type === "dataAt") {
      const file = byPath.get(event.path);
      const length = fate === "torn" ? event.content.length >> 1 : event.content.length;
      if (file === undefined || isLost) continue;
      file.content = Buffer.from(file.content);
      file.content.set(event.content.subarray(0, length), event.offsetBytes);
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
