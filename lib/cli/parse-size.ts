import { TidemarkError } from "../model/errors.js";

const SIZE = /^(\+?)(\d{1,15})(B|KiB|MiB|GiB|TiB|PiB)?$/;
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

export interface Size {
  readonly bytes: number;
  /** It began with "+": to be added to what there is. */
  readonly isRelative: boolean;
}

/** "20GiB", "+512MiB"; a bare number counts bytes. */
export function parseSize(text: string): Size {
  const match = SIZE.exec(text);
  const unit = UNITS.indexOf((match?.[3] ?? "B") as (typeof UNITS)[number]);
  const bytes = Number(match?.[2] ?? 0) * 1024 ** unit;
  if (match !== null && bytes > 0 && Number.isSafeInteger(bytes)) {
    return { bytes, isRelative: match[1] === "+" };
  }
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot use ${JSON.stringify(text)} as a size: it is not like 20GiB, 512MiB or +5GiB.`,
  );
}
