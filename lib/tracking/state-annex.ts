/** What goes with an exported state beside the maps: JSON, see docs/formats/disk-state.md. */
interface AnnexDocument {
  readonly bitmapNames: readonly string[];
}

export function stateAnnex(bitmapNames: readonly string[]): string {
  if (bitmapNames.length === 0) return "";
  return JSON.stringify({ bitmapNames } satisfies AnnexDocument);
}

/** Of what nobody can read: none. Names are worth no refusal of the maps. */
export function bitmapNamesOf(annex: string): string[] {
  try {
    const document = JSON.parse(annex) as Partial<AnnexDocument> | null;
    const names: readonly unknown[] = Array.isArray(document?.bitmapNames)
      ? document.bitmapNames
      : [];
    return names.filter((name) => typeof name === "string");
  } catch {
    return [];
  }
}
