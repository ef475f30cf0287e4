import { TidemarkError } from "../model/errors.js";

/** Of a replica that is replicated on from here: its cuts are those of its points. */
export function refuseScripts(settings: {
  readonly applicationConsistentEveryMs?: number | null;
  readonly freezeScript?: string | null;
  readonly thawScript?: string | null;
}): void {
  const { applicationConsistentEveryMs, freezeScript, thawScript } = settings;
  const wanted = [applicationConsistentEveryMs, freezeScript, thawScript];
  if (wanted.every((value) => value === undefined || value === null)) return;
  throw new TidemarkError(
    "CONFLICT",
    "Cannot bring the VM's applications to rest: because this host keeps its replica only.",
    { hint: "Set that on the VM's primary: the points of this replica, and of the next, follow." },
  );
}
