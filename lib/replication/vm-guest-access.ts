import { TidemarkError } from "../model/errors.js";
import type { GuestAccess, Note } from "./guest-access.js";
import type { Relationship } from "./relationship.js";
import type { ReplicationPorts } from "./replication-ports.js";
import type { VmRelationships } from "./vm-relationships.js";

/**
 * Of a VM's relationships one at a time decides and notes, by what the others have noted: two
 * that get the VM back together would each find it given away to the other.
 */
export class VmGuestAccess implements GuestAccess {
  readonly #vms: VmRelationships;
  readonly #ports: ReplicationPorts;
  readonly #relationship: () => Relationship;

  constructor(vms: VmRelationships, ports: ReplicationPorts, relationship: () => Relationship) {
    this.#vms = vms;
    this.#ports = ports;
    this.#relationship = relationship;
  }

  give(note: Note): Promise<void> {
    return this.#inTurn(async (relationship) => {
      if (await this.#vms.mayServe(relationship)) await this.#setServed(relationship, true);
      await note();
    });
  }

  withhold(note: Note): Promise<void> {
    return this.#inTurn(async (relationship) => {
      await this.#setServed(relationship, false);
      await note();
    });
  }

  giveAway(note: Note): Promise<void> {
    return this.#inTurn(async (relationship) => {
      if (!(await this.#vms.mayServe(relationship))) throw givenAwayBefore();
      await note();
    });
  }

  giveUp(note: Note): Promise<void> {
    return this.#vms.of(this.#relationship().vmId).length > 1 ? this.give(note) : note();
  }

  #inTurn(work: (relationship: Relationship) => Promise<void>): Promise<void> {
    const relationship = this.#relationship();
    return this.#vms.inTurn(relationship.vmId, () => work(relationship));
  }

  async #setServed({ vmId }: Relationship, isServed: boolean): Promise<void> {
    await this.#ports.setServed?.(vmId, isServed);
  }
}

export function givenAwayBefore(): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    "Cannot hand the VM over: because it is handed over, or was failed over, to another of its targets.",
    { hint: "Cancel that first: tidemark vm cancel-failover." },
  );
}
