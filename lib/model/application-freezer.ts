/** How the applications of a VM are brought to rest. */
export interface FreezeWay {
  readonly vmId: string;
  /** By which scripts know the VM. */
  readonly vmName: string;
  readonly freezeScript: string;
  readonly thawScript: string;
}

/**
 * Brings a VM's applications to rest for a checkpoint, and lets them go on: what they hold in
 * memory is on the VM's disks, and they write nothing, in between.
 *
 * lib/hypervisor implements it by scripts, model/memory-freezer.ts in memory; one contract
 * suite runs on both (test/contracts/application-freezer.ts). A freeze has an id that is noted
 * durably before it begins, so that a later process can end what an earlier one has left.
 */
export interface ApplicationFreezer {
  /**
   * Resolves when they are at rest. Rejects soon after the signal aborts. When it rejects,
   * they may be frozen, or be so soon: thaw() has to follow in any case.
   */
  freeze(freezeId: string, signal: AbortSignal): Promise<void>;

  /**
   * Resolves when they go on, and nothing that the freeze has begun can stop them again.
   * Idempotent; also for a freeze that is under way, that failed, that never began, or that an
   * earlier process began.
   */
  thaw(freezeId: string, signal: AbortSignal): Promise<void>;
}
