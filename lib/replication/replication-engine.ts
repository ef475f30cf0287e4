/** All relationships of this host as primary. */
import { TidemarkError } from "../model/errors.js";
import {
  type CycleReport,
  type FirstCopy,
  type GroupStatus,
  holderIdOf,
  type RelationshipStatus,
  type ReplicationEvent,
} from "../model/relationship.js";
import type { Generation } from "../model/disk.js";
import type { Lineage } from "../model/lineage.js";
import type { ReplicaVmStatus } from "../model/replica-endpoint.js";
import {
  type NewRelationshipSettings,
  type RelationshipSettings,
  type SettingsChange,
  withDefaults,
} from "../model/relationship-settings.js";
import { checkSettings } from "./check-settings.js";
import { copiedBefore } from "./first-copy.js";
import { askedBack, takenBackAlone } from "./hand-over.js";
import { HostGroups } from "./host-groups.js";
import { HostTurns } from "./host-turns.js";
import type { LeftAt, OwnDifferences } from "./own-differences.js";
import type { RelationshipStanding } from "./relationship-standing.js";
import { AT_ONCE, enabledRecord, reversedRecord, takenOverRecord } from "./new-record.js";
import { NewRecords } from "./new-records.js";
import { Relationship } from "./relationship.js";
import { RELATIONSHIP_PREFIX, RelationshipJournal } from "./relationship-journal.js";
import { DEFAULT_REPLICATION_LIMITS } from "./replication-limits.js";
import type { ReplicationPorts } from "./replication-ports.js";
import { Thaws } from "./thaws.js";
import { givenAwayBefore, VmGuestAccess } from "./vm-guest-access.js";
import { type NamedTarget, VmRelationships } from "./vm-relationships.js";

export type ReplicationListener = (event: ReplicationEvent) => void;

const LONGEST_DELAY_MS = 7 * 86_400_000;

export class ReplicationEngine implements AsyncDisposable {
  readonly #ports: ReplicationPorts;
  readonly #turns: HostTurns;
  readonly #groups: HostGroups;
  readonly #thaws: Thaws;
  readonly #relationships = new VmRelationships();
  readonly #newRecords: NewRecords;
  readonly #listeners = new Set<ReplicationListener>();
  #isClosed = false;

  constructor(ports: ReplicationPorts) {
    this.#ports = ports;
    const limits = { ...DEFAULT_REPLICATION_LIMITS, ...ports.limits };
    this.#turns = new HostTurns(ports);
    this.#groups = new HostGroups({ ...ports, turn: this.#turns.checkpoint, limits });
    this.#thaws = new Thaws(ports, limits);
    this.#newRecords = new NewRecords(ports, (journal) => this.#add(journal).start());
  }

  /** Goes on with every relationship of the store. Resolves without waiting for any replica. */
  async start(): Promise<void> {
    const { store } = this.#ports;
    await this.#thaws.start();
    const documents = await store.list(RELATIONSHIP_PREFIX);
    // All are in their groups before the first one begins.
    const added = documents.map((each) => this.#add(RelationshipJournal.fromDocument(store, each)));
    for (const relationship of added) relationship.start();
  }

  /**
   * Durably begins a relationship. Initial replication begins by itself, now or at the time
   * given; null: when startInitial() is called.
   */
  async enable(
    settings: NewRelationshipSettings,
    initialStartAtMs: number | null = AT_ONCE,
    firstCopy: FirstCopy | null = null,
  ): Promise<void> {
    const checked = this.requireEnableable(settings, initialStartAtMs);
    await this.#newRecords.create(enabledRecord(checked, initialStartAtMs, firstCopy));
  }

  /**
   * Durably begins to replicate a VM that was failed over to this host, to the one that had
   * it before; its target was added before it wrote anything here.
   */
  async reverse(
    settings: NewRelationshipSettings,
    lineage: Lineage,
    formerHeadId?: string,
  ): Promise<void> {
    const checked = this.requireEnableable(settings);
    await this.#newRecords.create(reversedRecord(checked, lineage, formerHeadId));
  }

  /**
   * Durably begins to replicate to a replica that had another primary, and has this host now:
   * what differs from its newest point is found by comparing all.
   */
  async takeOver(settings: NewRelationshipSettings, status: ReplicaVmStatus): Promise<void> {
    await this.#newRecords.create(takenOverRecord(this.requireEnableable(settings), status));
  }

  /** Throws what enable() would; answers the settings as they would be noted. */
  requireEnableable(
    settings: NewRelationshipSettings,
    initialStartAtMs: number | null = null,
  ): RelationshipSettings {
    this.#requireOpen();
    const checked = checkSettings(withDefaults(settings));
    this.#requireStartTime(initialStartAtMs);
    this.#newRecords.requireNoneUnderWay(checked);
    this.#relationships.requireNew(checked);
    this.#requireGroupInterval(checked.group ?? null, checked);
    return checked;
  }

  /** From the next cycle on; a throttle, a priority and the compression at once. */
  async change(id: string, change: SettingsChange): Promise<void> {
    const relationship = this.#relationships.get(id);
    const { replicaUrl } = change;
    if (replicaUrl !== undefined) this.#relationships.requireOtherHosts(relationship, replicaUrl);
    const settings = checkSettings({ ...relationship.settings, ...change });
    this.#requireGroupInterval(settings.group ?? null, settings);
    await relationship.change(change);
  }

  /** Of a relationship that is ready. Default: now. */
  async startInitial(id: string, startAtMs = AT_ONCE): Promise<void> {
    this.#requireStartTime(startAtMs);
    await this.#relationships.get(id).startInitial(startAtMs);
  }

  /** What ports.transfers() answers has changed. */
  checkTurns(): void {
    this.#turns.check();
  }

  cancelInitial(id: string): Promise<void> {
    return this.#relationships.get(id).cancelInitial();
  }

  resynchronize(id: string): Promise<void> {
    return this.#relationships.get(id).resynchronize();
  }

  /**
   * Begins a planned failover; the state tells how far it is. CONFLICT unless it is replicating,
   * and while the VM is given away to another of its targets.
   */
  async handOver(id: string): Promise<void> {
    const relationship = this.#relationships.get(id);
    // Asked again, for good, when it is noted: an order that is refused here halts nothing.
    if (!(await this.#relationships.mayServe(relationship))) throw givenAwayBefore();
    await relationship.handOver();
  }

  /** Cancels a planned failover unless the replica has taken over already. */
  takeBack(id: string): Promise<void> {
    return this.#relationships.get(id).takeBack(askedBack);
  }

  /** Whatever the replica has become: if it has taken over, both sides have the VM from now on. */
  takeBackAlone(id: string): Promise<void> {
    return this.#relationships.get(id).takeBack(takenBackAlone);
  }

  has(id: string): boolean {
    return this.#relationships.find(id) !== undefined;
  }

  /** All of a VM's, its first target's before those of the others; empty: it is not replicated. */
  idsOf(vmId: string): readonly string[] {
    return this.#relationships.idsOf(vmId);
  }

  /** The VM's further targets. */
  targetsOf(vmId: string): readonly NamedTarget[] {
    return this.#relationships.targetsOf(vmId);
  }

  /** The VM's first target becomes one of its further ones; ALREADY_EXISTS: one has that name. */
  async makeFurther(vmId: string, targetName: string): Promise<void> {
    await this.#relationships.makeFurther(this.#relationships.get(vmId), targetName);
  }

  /**
   * The relationship to the replica that has the VM, or is about to, as noted; null: none has.
   */
  givenAwayTo(vmId: string): string | null {
    return this.#relationships.givenAwayTo(vmId);
  }

  /** The id of the VM's first target; null: it has none. */
  targetIdOf(vmId: string): string | null {
    return this.#relationships.find(vmId)?.settings.targetId ?? null;
  }

  /** How this host stands to a VM's lineage. */
  standingOf(id: string): RelationshipStanding {
    const { state, journal } = this.#relationships.get(id);
    const { record } = journal;
    return { state, generation: record.generation, holderId: holderIdOf(record) };
  }

  /**
   * Lets go of the disks of a VM that went on elsewhere, until the service starts again, and
   * says what they hold that this target's host has not; nothing is noted. What cannot be found
   * out is not known.
   */
  async letGo(id: string, leftAt: LeftAt): Promise<OwnDifferences> {
    const relationship = this.#relationships.get(id);
    for (const other of this.#relationships.of(relationship.vmId)) {
      if (other !== relationship) await other.stop();
    }
    return relationship.letGo(leftAt);
  }

  /** As remove() of all, of a VM whose disks are not this host's to touch any more. Idempotent. */
  async forget(vmId: string): Promise<void> {
    this.#newRecords.giveUp(vmId);
    for (const relationship of this.#relationships.of(vmId)) {
      await relationship.forget();
      this.#relationships.delete(relationship);
    }
    await this.#groups.dissolveEmpty();
  }

  suspend(id: string): Promise<void> {
    return this.#relationships.get(id).suspend();
  }

  resume(id: string): Promise<void> {
    return this.#relationships.get(id).resume();
  }

  /**
   * Compares the VM's disks with its replica, between the cycles; status() tells how far it
   * is. CONFLICT unless it is replicating, IN_USE while one is under way.
   */
  async compare(id: string, isRepair: boolean): Promise<void> {
    const { state, between } = this.#relationships.get(id);
    if (state !== "replicating") {
      throw new TidemarkError(
        "CONFLICT",
        `Cannot compare with the replica: because the replication's state is ${state}.`,
        { hint: "Compare when it is replicating." },
      );
    }
    between.compare(isRepair);
  }

  async stopComparison(id: string): Promise<void> {
    this.#relationships.get(id).between.stopComparison();
  }

  /** The VM's other targets stay. If nobody else has the VM, guests reach it here. */
  async remove(id: string): Promise<void> {
    const relationship = this.#relationships.get(id);
    await relationship.remove();
    this.#relationships.delete(relationship);
    await this.#groups.dissolveEmpty();
  }

  /** From its next cycle on the VM is cut with the group's others; null: alone. */
  async setGroup(id: string, group: string | null): Promise<void> {
    const relationship = this.#relationships.get(id);
    this.#requireGroupInterval(group, relationship.settings);
    checkSettings({ ...relationship.settings, group: group ?? undefined });
    await relationship.setGroup(group);
    await this.#groups.dissolveEmpty();
  }

  /** Runs `change`, which lets disks of the VM come and go, between two cycles of all targets. */
  changeDisks<T>(vmId: string, change: () => Promise<T>): Promise<T> {
    const all = this.#relationships.of(vmId);
    const inAll = all.reduce((work, each) => () => each.changeDisks(work), change);
    return inAll();
  }

  /** CONFLICT: the VM's first copy is made. */
  requireNoPoint(id: string): void {
    if (this.#relationships.get(id).journal.record.headPointId !== null) throw copiedBefore();
  }

  /** Whose keys are needed still. */
  mediaBeingWritten(): string[] {
    return this.#relationships.all().flatMap(({ journal }) => {
      const { firstCopy } = journal.record;
      return firstCopy?.by === "medium" && firstCopy.stage === "writing" ? [firstCopy.mediaId] : [];
    });
  }

  /** How a VM's first copy goes on; null: over the network. CONFLICT when there is one. */
  setFirstCopy(id: string, firstCopy: FirstCopy | null): Promise<void> {
    return this.#relationships.get(id).setFirstCopy(firstCopy);
  }

  /** The consistency groups that VMs are in. */
  groups(): readonly GroupStatus[] {
    return this.#groups.statuses();
  }

  async status(id: string): Promise<RelationshipStatus> {
    return this.#relationships.get(id).status();
  }

  /** What this host holds of the VM's lineage, and the replica asks for. */
  generationOf(id: string): Generation {
    return this.#relationships.get(id).journal.record.generation;
  }

  /** Cycles missed until now are no reason for a warning any more. */
  forgetMissed(id: string): void {
    this.#relationships.get(id).forgetMissed();
  }

  statuses(): Promise<RelationshipStatus[]> {
    return Promise.all(this.#relationships.all().map((each) => each.status()));
  }

  /** The last cycles, oldest first. */
  recentCycles(id: string): readonly CycleReport[] {
    return this.#relationships.get(id).recentCycles;
  }

  /** Answers how to stop listening. */
  subscribe(listener: ReplicationListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Ends all loops; what was under way is given back. The store stays the caller's. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#newRecords.close();
    await Promise.all(this.#relationships.all().map((each) => each.stop()));
    await this.#thaws.close();
    this.#relationships.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #add(journal: RelationshipJournal): Relationship {
    this.#requireOpen();
    const guests = new VmGuestAccess(this.#relationships, this.#ports, () => relationship);
    const host = { turns: this.#turns, groups: this.#groups, thaws: this.#thaws, guests };
    const relationship: Relationship = new Relationship(this.#ports, journal, host, (event) =>
      this.#tell(event),
    );
    this.#relationships.add(relationship);
    return relationship;
  }

  /** A listener's failure is its own: replication goes on. */
  #tell(event: ReplicationEvent): void {
    for (const listener of this.#listeners) {
      try {
        listener(event);
      } catch (thrown) {
        process.emitWarning(thrown instanceof Error ? thrown : String(thrown));
      }
    }
  }

  /** Members are cut together, so they have one rhythm. */
  #requireGroupInterval(
    group: string | null,
    { vmId, intervalMs }: Pick<RelationshipSettings, "vmId" | "intervalMs">,
  ): void {
    for (const relationship of this.#relationships.all()) {
      const other = relationship.settings;
      if (group === null || other.group !== group || other.vmId === vmId) continue;
      if (other.intervalMs === intervalMs) return;
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        `Cannot replicate every ${intervalMs} ms in consistency group ${group}: because its VMs are cut every ${other.intervalMs} ms.`,
        { hint: "Give the VM the group's interval, or leave it out of the group." },
      );
    }
  }

  #requireStartTime(startAtMs: number | null): void {
    const latestMs = this.#ports.clock.nowMs() + LONGEST_DELAY_MS;
    if (startAtMs === null || startAtMs <= latestMs) return;
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "Cannot schedule initial replication: because that is more than 7 days from now.",
      { hint: "Give an earlier time, or start it when it suits." },
    );
  }

  #requireOpen(): void {
    if (!this.#isClosed) return;
    throw new TidemarkError("CLOSED", "Cannot replicate: because the engine is closed.");
  }
}
