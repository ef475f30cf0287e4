/** Where a disk's tracker listens: an NBD export on a Unix socket. */
export interface FilterExport {
  readonly socketPath: string;
  readonly exportName: string;
}

/** A filter, and the image that it writes to: what the VM has without the filter. */
export interface DiskFilter extends FilterExport {
  readonly imagePath: string;
}

/** A disk of a running VM, as the hypervisor has it now. */
export interface VmDisk {
  /** Of the guest's device, as the VM's definition has it. */
  readonly name: string;
  /** Null when the VM reaches it by a filter, or when it is no local file or device. */
  readonly imagePath: string | null;
  /** "raw", "qcow2", ...; of what goes by a filter, "nbd". */
  readonly format: string;
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  /** Past the host's page cache: a tracker beside the hypervisor has to open the image likewise. */
  readonly isDirect: boolean;
  /** Null when what the guest writes goes past every filter. */
  readonly filter: FilterExport | null;
}

export type VmEvent =
  | { readonly kind: "paused" | "resumed" | "stopped" }
  /** A disk that went by a filter is written to without it, by nobody's order here. */
  | { readonly kind: "bypassed"; readonly diskName: string }
  | { readonly kind: "disk-attached" | "disk-detached"; readonly diskName: string };

/**
 * A VM that runs. lib/hypervisor implements it, and model/memory-hypervisor.ts in memory;
 * one contract suite runs on both (test/contracts/hypervisor.ts).
 */
export interface RunningVm extends AsyncDisposable {
  disks(signal: AbortSignal): Promise<readonly VmDisk[]>;

  /**
   * Moves a disk under its running guest to the filter, which writes to the same image. When it
   * resolves every write goes by the filter, and the hypervisor has let go of the image. When it
   * rejects the guest goes on as before, and nothing of the attempt is left; or the switch was
   * made and the image is still held by something else, which disks() tells apart. Idempotent;
   * ends what an earlier process has left half done.
   *
   * The filter must not hold a lock on the image meanwhile (lock "none").
   */
  insertFilter(diskName: string, filter: DiskFilter, signal: AbortSignal): Promise<void>;

  /** The way back to the image, likewise; the filter is not used any more when it resolves. */
  removeFilter(diskName: string, filter: DiskFilter, signal: AbortSignal): Promise<void>;

  /** From now on, until the VM is gone ("stopped" comes last), this is closed, or the signal aborts. */
  events(signal: AbortSignal): AsyncIterable<VmEvent>;

  /** The VM runs on. */
  close(): Promise<void>;
}

/** Where the hypervisor of a VM is reached. */
export interface HypervisorPlace {
  readonly kind: "qemu";
  /** The Unix socket of its QMP monitor, which it keeps for us alone. */
  readonly monitorPath: string;
}

/** What runs VMs, to who has to see and to change their disks. */
export interface Hypervisor {
  /** UNREACHABLE when it does not run; IN_USE when another program controls it. */
  connect(vmName: string, signal: AbortSignal): Promise<RunningVm>;
}
