import type { Finding } from "./finding.js";

/** Counts that may only fall; `tidy.ts --lower` writes lower ones. */
export interface RatchetCounts {
  readonly functionsOver40Lines: number;
  readonly filesOver400Lines: number;
  readonly unusedExports: number;
}

export const RATCHET_PATH = "tools/tidy/ratchet.json";

/** What makes up a count, so that a rise can be told from what was there. */
export type Offenders = Readonly<Record<keyof RatchetCounts, readonly Finding[]>>;

export function checkRatchet(committed: RatchetCounts, offenders: Offenders): Finding[] {
  return Object.keys(offenders).flatMap((name) => {
    const key = name as keyof RatchetCounts;
    const found = offenders[key];
    const allowed = committed[key];
    if (found.length === allowed) return [];
    if (found.length < allowed) {
      const message = `${key} has fallen from ${allowed} to ${found.length}: keep it, with npm run tidy -- --lower`;
      return [{ path: RATCHET_PATH, message }];
    }
    return found.map((offender) => ({
      ...offender,
      message: `${offender.message} (${key}: ${found.length}, and ${allowed} is the most)`,
    }));
  });
}

export function lowered(committed: RatchetCounts, offenders: Offenders): RatchetCounts {
  const least = (key: keyof RatchetCounts) => Math.min(committed[key], offenders[key].length);
  return {
    functionsOver40Lines: least("functionsOver40Lines"),
    filesOver400Lines: least("filesOver400Lines"),
    unusedExports: least("unusedExports"),
  };
}
