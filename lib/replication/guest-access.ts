export type Note = () => Promise<void>;

/** Whether guests reach a VM's disks, as one of its relationships decides it and notes why. */
export interface GuestAccess {
  /** Guests reach the disks, unless another target has the VM; then `note`. */
  give(note: Note): Promise<void>;
  /** Guests are kept from the disks; then `note`. */
  withhold(note: Note): Promise<void>;
  /** `note` that the VM is about to be its replica's. CONFLICT where another target has it. */
  giveAway(note: Note): Promise<void>;
  /** As give(), of a relationship that ends; with a VM's last one its disks are left as they are. */
  giveUp(note: Note): Promise<void>;
}
