/**
 * A tracker around another that leaves out blocks it believes the replica has, by rules of
 * its own, one of them broken: what the rules of the real one are for.
 */
import type { SegmentPlan } from "#lib/model/delta.js";
import type { TargetChanges, VmTracker } from "#lib/model/vm-tracker.js";
import { decodeSegment, encodeContents } from "../../contracts/segment-bytes.js";
import { override } from "../override.js";
import type { Seams } from "./seams.js";

type Believed = Map<string, string>;

/** Kept over a crash, as a file would be. */
const beliefs = new WeakMap<VmTracker, Believed>();

export type BrokenSkipping =
  /** A delta that was not committed has taught nothing. */
  | "learns when it reads"
  /** What is drained hides the head. */
  | "outlives a staging session"
  /** What a doubtful delta carried is not known. */
  | "outlives a doubt"
  /** A skipped block is one of the cut. */
  | "looks at the running disk";

export function skipping(seams: Seams, broken: BrokenSkipping): VmTracker {
  const { tracker } = seams;
  const believed = beliefs.get(tracker) ?? new Map<string, string>();
  beliefs.set(tracker, believed);
  return override(tracker, {
    checkpoint: async (id, options) => {
      const changes = await tracker.checkpoint(id, withoutSkipping(options));
      return skippingChanges(seams, changes, believed, broken);
    },
    drain: (id, options) => {
      if (broken !== "outlives a staging session") believed.clear();
      return tracker.drain(id, withoutSkipping(options));
    },
    commitInFlight: async (id) => {
      if (broken !== "outlives a doubt") believed.clear();
      return tracker.commitInFlight(id);
    },
  });
}

function withoutSkipping(options: Parameters<VmTracker["checkpoint"]>[1] = {}) {
  const { unchangedSince: _, ...others } = options;
  return others;
}

function skippingChanges(
  { diskContent }: Seams,
  changes: TargetChanges,
  believed: Believed,
  broken: BrokenSkipping,
): TargetChanges {
  const read: Believed = broken === "learns when it reads" ? believed : new Map();
  const before = new Map(believed);
  return override(changes, {
    source: (deltaId, plan) => ({
      deltaId,
      plan,
      async *records(signal) {
        const contents = await contentsOf(changes, deltaId, plan, signal);
        const pairs: number[] = [];
        const kept: Uint8Array[] = [];
        for (const { key, offset, content } of contents) {
          const looked =
            broken === "looks at the running disk"
              ? diskContent(plan.diskIndex).subarray(offset, offset + content.length)
              : content;
          const isBelieved = before.get(key) === hex(looked);
          read.set(key, hex(looked));
          if (isBelieved) continue;
          pairs.push(offset, content.length);
          kept.push(content);
        }
        yield encodeContents(deltaId, { ...plan, extents: Float64Array.from(pairs) }, kept);
      },
    }),
    commit: async (pointId) => {
      await changes.commit(pointId);
      for (const [key, text] of read) believed.set(key, text);
    },
  });
}

interface Block {
  readonly key: string;
  readonly offset: number;
  readonly content: Uint8Array;
}

/** Block by block, as the wrapped tracker frames them. */
async function contentsOf(
  changes: TargetChanges,
  deltaId: string,
  plan: SegmentPlan,
  signal: AbortSignal | undefined,
): Promise<Block[]> {
  const blocks: Block[] = [];
  for await (const bytes of changes.source(deltaId, plan).records(signal)) {
    for (const extent of decodeSegment(bytes).extents) {
      const content = extent.content ?? new Uint8Array(extent.lengthBytes);
      for (let done = 0; done < content.length; done += plan.granularityBytes) {
        const offset = extent.offsetBytes + done;
        const block = content.subarray(done, done + plan.granularityBytes);
        blocks.push({ key: `${plan.diskIndex}:${offset}`, offset, content: block });
      }
    }
  }
  return blocks;
}

function hex(content: Uint8Array): string {
  return Buffer.from(content).toString("hex");
}
