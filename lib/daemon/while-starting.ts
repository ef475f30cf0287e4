import { TidemarkError } from "../model/errors.js";
import type { FormerPrimary } from "../replica/former-primary.js";
import type { SuccessionWatch } from "../replica/succession-watch.js";

/**
 * What stands beside the replica store while its host starts: peers are answered already,
 * and what needs this host's own VMs has to wait for them.
 */
export const WHILE_STARTING: FormerPrimary & SuccessionWatch = {
  release: () => Promise.reject(isStarting("take the VM back")),
  forget: () => Promise.reject(isStarting("take the VM back")),
  requireNotOwn: () => {
    throw isStarting("keep a replica of the VM");
  },
  mayPromote: () => {
    throw isStarting("take the VM over");
  },
  succeeded: () => {},
};

function isStarting(what: string): TidemarkError {
  return new TidemarkError("CONFLICT", `Cannot ${what}: because this host is starting.`, {
    retryable: true,
    hint: "It is asked again by itself.",
  });
}
