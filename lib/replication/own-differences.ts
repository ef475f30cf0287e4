import type { DiskMarks } from "../model/disk-marks.js";
import type { RelationshipRecord } from "../model/relationship.js";
import { isAllSent } from "./hand-over.js";
import type { RelationshipContext } from "./relationship-context.js";
import type { RelationshipLink } from "./relationship-link.js";

/** What this host's disks hold of a VM that went on elsewhere. */
export interface OwnDifferences {
  /** They are as they were at the point from which it went on. */
  readonly isUnchanged: boolean;
  /** Where they may be others than the replica's newest point; null: not known. */
  readonly marks: readonly DiskMarks[] | null;
}

/** The points of the replica that the disks are held against. */
export interface LeftAt {
  /** The VM went on from it. */
  readonly forkPointId: string | null;
  /** Its newest; undefined: not known. */
  readonly formerHeadId: string | undefined;
}

const NOTHING_KNOWN: OwnDifferences = { isUnchanged: false, marks: null };

/** The link is closed afterwards. What cannot be found out is not known. */
export async function ownDifferences(
  link: RelationshipLink,
  leftAt: LeftAt,
): Promise<OwnDifferences> {
  try {
    return await find(await link.connect(), leftAt);
  } catch {
    return NOTHING_KNOWN;
  } finally {
    await link.disconnect();
  }
}

async function find(
  context: RelationshipContext,
  { forkPointId, formerHeadId }: LeftAt,
): Promise<OwnDifferences> {
  const { record } = context.journal;
  const isFork = forkPointId !== null && record.headPointId === forkPointId;
  const isUnchanged = isFork && (await isAllSent(context));
  if (!isHead(record, formerHeadId)) return { isUnchanged, marks: null };
  const { tracker, targetId } = context;
  const marks = await tracker.readMarks(targetId);
  const marked = record.markedDiskIds;
  return {
    isUnchanged,
    // Of a disk that came lately its map does not say yet what the target lacks.
    marks: marks.filter(({ diskId }) => marked === undefined || marked.includes(diskId)),
  };
}

/**
 * Marks are cleared by a commit alone: they tell all that the newest point lacks if this side
 * knows it as its head, or asked for it and has not heard.
 */
function isHead({ headPointId, inDoubt }: RelationshipRecord, pointId: string | undefined) {
  return pointId !== undefined && (headPointId === pointId || inDoubt?.deltaId === pointId);
}
