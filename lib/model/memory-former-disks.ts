import { randomUUID } from "node:crypto";
import { deltaDigest } from "./delta-digest.js";
import type { Generation, ReplicatedVm } from "./disk.js";
import type { DiskMarks } from "./disk-marks.js";
import type { RecoveryPoint } from "./replica-endpoint.js";

/** Disks that a host had as the VM's primary. */
export interface FormerDisks {
  readonly generation: Generation;
  /** By disk id. */
  readonly contents: ReadonlyMap<string, Uint8Array>;
  readonly isUnchanged: boolean;
  /** The newest point that it had made, and where its disks may be others than that. */
  readonly head?: { readonly pointId: string; readonly marks: readonly DiskMarks[] };
}

/** Their own recovery point, the first. */
export function pointOfFormer(vm: ReplicatedVm, { generation, contents }: FormerDisks) {
  const point: RecoveryPoint = {
    pointId: randomUUID(),
    sequence: 1,
    parentPointId: null,
    generation,
    takenAtMs: 0,
    validUntilMs: 0,
    cutSequence: 1,
    consistency: "crash",
    digest: deltaDigest([]),
    changedBytes: 0,
  };
  return { point, of: { disks: vm.disks }, contents };
}

/** While nothing came over them. */
export function marksOfFormer(
  kept: { readonly returned: FormerDisks | null; readonly points: readonly unknown[] },
  formerHeadId: string | undefined,
): readonly DiskMarks[] | undefined {
  const head = kept.returned?.head;
  return kept.points.length === 1 && head?.pointId === formerHeadId ? head?.marks : undefined;
}
