import { TidemarkError } from "../model/errors.js";
import type { RelationshipSettings } from "../model/relationship-settings.js";
import type { Relationship } from "./relationship.js";

export interface NamedTarget {
  /** The relationship's. */
  readonly id: string;
  readonly name: string;
}

/**
 * The relationships of a host, by their ids: a VM has one for each of its targets. They share
 * nothing but the VM's disks, and that guests reach these only while none of them has given
 * the VM away.
 */
export class VmRelationships {
  readonly #byId = new Map<string, Relationship>();
  readonly #turns = new Map<string, Promise<void>>();

  /** In the order in which they were added. */
  all(): readonly Relationship[] {
    return [...this.#byId.values()];
  }

  of(vmId: string): readonly Relationship[] {
    return this.all().filter((each) => each.vmId === vmId);
  }

  /** Its first target's before those of the others. */
  idsOf(vmId: string): readonly string[] {
    const ids = this.of(vmId).map(({ id }) => id);
    return ids.includes(vmId) ? [vmId, ...ids.filter((id) => id !== vmId)] : ids;
  }

  targetsOf(vmId: string): readonly NamedTarget[] {
    return this.of(vmId).flatMap(({ id, settings: { targetName: name } }) =>
      name === undefined ? [] : [{ id, name }],
    );
  }

  /** As far as is noted here; null: none. */
  givenAwayTo(vmId: string): string | null {
    return this.idsOf(vmId).find((id) => this.get(id).isGivenAway) ?? null;
  }

  /** A VM's id stands for its first target. */
  find(id: string): Relationship | undefined {
    return this.#byId.get(id);
  }

  /** NOT_FOUND. */
  get(id: string): Relationship {
    const found = this.#byId.get(id);
    if (found !== undefined) return found;
    throw new TidemarkError(
      "NOT_FOUND",
      `Cannot find the replication of ${id}: because it is not enabled here.`,
    );
  }

  add(relationship: Relationship): void {
    this.#byId.set(relationship.id, relationship);
  }

  /** Another one of its id, which was added since, stays. */
  delete(relationship: Relationship): void {
    const { id } = relationship;
    if (this.#byId.get(id) === relationship) this.#byId.delete(id);
  }

  clear(): void {
    this.#byId.clear();
  }

  /** Its id is another one afterwards. */
  async makeFurther(relationship: Relationship, targetName: string): Promise<void> {
    const { vmId } = relationship;
    const isTaken = this.targetsOf(vmId).some(({ name }) => name === targetName);
    if (isTaken) throw replicatedBefore(vmId, targetName);
    const formerId = relationship.id;
    // Never without it: whether it has given the VM away counts all the while.
    await relationship.change({ targetName }).finally(() => {
      this.#byId.delete(formerId);
      this.add(relationship);
    });
  }

  /** Whether no other relationship of the VM has given it away, as far as is noted. */
  async mayServe(relationship: Relationship): Promise<boolean> {
    const others = this.of(relationship.vmId).filter((each) => each !== relationship);
    // A note whose answer was lost may have been taken.
    for (const { journal } of others) await journal.refresh();
    return !others.some(({ isGivenAway }) => isGivenAway);
  }

  /** Of what is decided for all relationships of a VM one thing is done after the other. */
  inTurn(vmId: string, work: () => Promise<void>): Promise<void> {
    const result = (this.#turns.get(vmId) ?? Promise.resolve()).then(work);
    this.#turns.set(
      vmId,
      result.catch(() => {}),
    );
    return result;
  }

  /** ALREADY_EXISTS: a target of that name, or at that host. */
  requireNew({ vmId, targetName, replicaUrl }: RelationshipSettings): void {
    for (const { settings } of this.of(vmId)) {
      if (settings.targetName === targetName) throw replicatedBefore(vmId, targetName);
      if (isSameHost(settings.replicaUrl, replicaUrl)) throw sameHost(replicaUrl);
    }
  }

  /** ALREADY_EXISTS: another of the VM's targets is at the host that this one is to move to. */
  requireOtherHosts(relationship: Relationship, replicaUrl: string): void {
    for (const other of this.of(relationship.vmId)) {
      if (other === relationship) continue;
      if (isSameHost(other.settings.replicaUrl, replicaUrl)) throw sameHost(replicaUrl);
    }
  }
}

function isSameHost(one: string, other: string): boolean {
  return new URL(one).origin === new URL(other).origin;
}

function replicatedBefore(vmId: string, targetName: string | undefined): TidemarkError {
  const what =
    targetName === undefined
      ? "it is replicated already"
      : `it has a target called ${targetName} already`;
  return new TidemarkError(
    "ALREADY_EXISTS",
    `Cannot enable replication of ${vmId}: because ${what}.`,
  );
}

function sameHost(replicaUrl: string): TidemarkError {
  return new TidemarkError(
    "ALREADY_EXISTS",
    `Cannot replicate the VM to ${replicaUrl}: because another of its targets is that host.`,
    { hint: "A host keeps one replica of a VM; choose another host." },
  );
}
