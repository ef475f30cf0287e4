import { TidemarkError } from "../../model/errors.js";

export interface DomainStats {
  readonly isRunning: boolean;
  /** By the number in the names of libvirt's nodes, the disk's target ("vda"). */
  readonly targets: ReadonlyMap<string, string>;
}

/** Of libvirt's states: shut off, and crashed. */
const ENDED = ["5", "6"];

/** Of what `virsh domstats --raw --state --block` prints of one domain. */
export function domainStatsOf(text: string): DomainStats {
  const values = new Map<string, string>();
  for (const line of text.split("\n")) {
    const at = line.indexOf("=");
    if (at < 0) continue;
    const key = line.slice(0, at).trim();
    // A path that holds a line's end could pass for another disk.
    if (values.has(key)) throw notUnderstood();
    values.set(key, line.slice(at + 1));
  }
  const state = values.get("state.state");
  if (state === undefined || !/^\d$/.test(state)) throw notUnderstood();
  return { isRunning: !ENDED.includes(state), targets: targetsOf(values) };
}

function targetsOf(values: ReadonlyMap<string, string>): Map<string, string> {
  const targets = new Map<string, string>();
  for (let at = 0; at < Number(values.get("block.count") ?? 0); at += 1) {
    const index = values.get(`block.${at}.backingIndex`);
    const name = values.get(`block.${at}.name`);
    if (index !== undefined && name !== undefined) targets.set(index, name);
  }
  return targets;
}

function notUnderstood(): TidemarkError {
  return new TidemarkError(
    "VERSION_UNKNOWN",
    "Cannot see the VM's disks: because what virsh domstats prints is not understood.",
    { hint: "Use libvirt 9.0 or later." },
  );
}
