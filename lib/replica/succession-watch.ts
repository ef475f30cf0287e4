/** Who runs the VMs that are promoted in a store. */
export interface SuccessionWatch {
  /** Throws why this host cannot run a VM of that name; asked before it is to. */
  mayPromote(vmName: string): void;
  /** The VM has another generation, durably. */
  succeeded(vmId: string): void;
}

export const NOBODY_WATCHES: SuccessionWatch = {
  mayPromote: () => {},
  succeeded: () => {},
};
