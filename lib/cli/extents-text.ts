const EXTENTS_SHOWN = 4;

/** "OFFSET+LENGTH, ...": the first ones, and how many more there are. */
export function extentsText(extents: readonly number[]): string {
  const ranges: string[] = [];
  for (let i = 0; i + 1 < extents.length && ranges.length < EXTENTS_SHOWN; i += 2) {
    ranges.push(`${extents[i] ?? 0}+${extents[i + 1] ?? 0}`);
  }
  const left = extents.length / 2 - ranges.length;
  return `${ranges.join(", ")}${left > 0 ? ` and ${left} more` : ""}`;
}
