/** Too much is there: of a VM against its quota, or of all against what must stay free. */
export interface Shortage {
  readonly kind: "quota" | "floor";
  /** The larger of the two, and what it should not be larger than. */
  readonly presentBytes: number;
  readonly limitBytes: number;
}

/** Null while there is room. Of a floor: the bytes that must stay free, then those that are. */
export function shortageOf(
  kind: Shortage["kind"],
  presentBytes: number,
  limitBytes: number | null,
): Shortage | null {
  if (limitBytes === null || presentBytes <= limitBytes) return null;
  return { kind, presentBytes, limitBytes };
}

/** Of a file system. */
export interface Space {
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/** More than there is would never stay free, whatever is given up; null: it may. */
export function describeVainFloor(floorBytes: number, { totalBytes }: Space): string | null {
  if (floorBytes < totalBytes) return null;
  return `The replicas' file system has ${gib(totalBytes)} in all, so that a floor of ${gib(floorBytes)} cannot be kept: nothing is given up for it. Set freeSpaceFloorBytes to less.`;
}

const GIB = 2 ** 30;
const gib = (bytes: number) => `${(bytes / GIB).toFixed(1)} GiB`;

export function describeShortage({ kind, presentBytes, limitBytes }: Shortage): string {
  const what =
    kind === "quota"
      ? `The replica takes ${gib(presentBytes)}, over its quota of ${gib(limitBytes)}`
      : `The replicas' file system has ${gib(limitBytes)} free, under the floor of ${gib(presentBytes)}`;
  return `${what}, and no more recovery points can be given up now. Make room, unpin points, or close failovers.`;
}
