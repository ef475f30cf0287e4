import { TidemarkError } from "../model/errors.js";

/** The highest version that both ends speak; VERSION_UNKNOWN names what each speaks. */
export function agreeVersion(
  what: string,
  ours: readonly number[],
  theirs: readonly number[],
): number {
  const common = ours.filter((version) => theirs.includes(version));
  if (common.length > 0) return Math.max(...common);
  throw new TidemarkError(
    "VERSION_UNKNOWN",
    `Cannot replicate: because this host speaks ${what} version ${ours.join(", ")} and the replica ${theirs.join(", ")}.`,
    { hint: "Bring both hosts to the same version of Tidemark, the replica first." },
  );
}
