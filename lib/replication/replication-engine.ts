/** All relationships of this host as primary. */
import { randomUUID } from "node:crypto";
import { TidemarkError } from "../model/errors.js";
import type {
  CycleReport,
  FirstCopy,
  GroupStatus,
  RelationshipRecord,
  RelationshipState,
  RelationshipStatus,
  ReplicationEvent,
} from "../model/relationship.js";
import type { Generation } from "../model/disk.js";
import { type Lineage, presentEntry } from "../model/lineage.js";
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
import { Relationship } from "./relationship.js";
import { RELATIONSHIP_PREFIX, RelationshipJournal } from "./relationship-journal.js";
import { DEFAULT_REPLICATION_LIMITS } from "./replication-limits.js";
import type { ReplicationPorts } from "./replication-ports.js";
import { Thaws } from "./thaws.js";

export type ReplicationListener = (event: ReplicationEvent) => void;

/** Whatever the wall clock is set to. */
const AT_ONCE = 0;
const LONGEST_DELAY_MS = 7 * 86_400_000;

/** Of a relationship that has not begun. */
const NEW_RECORD = {
  state: "ready",
  headPointId: null,
  cutSequence: 0,
  inDoubt: null,
  stagingSessionId: null,
  allocationMarked: false,
  isResyncOrdered: false,
} as const;

export class ReplicationEngine implements AsyncDisposable {
  readonly #ports: ReplicationPorts;
  readonly #turns: HostTurns;
  readonly #groups: HostGroups;
  readonly #thaws: Thaws;
  readonly #relationships = new Map<string, Relationship>();
  readonly #listeners = new Set<ReplicationListener>();
  #isClosed = false;

  constructor(ports: ReplicationPorts) {
    this.#ports = ports;
    const limits = { ...DEFAULT_REPLICATION_LIMITS, ...ports.limits };
    this.#turns = new HostTurns(ports);
    this.#groups = new HostGroups({ ...ports, turn: this.#turns.checkpoint, limits });
    this.#thaws = new Thaws(ports, limits);
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
    await this.#create({
      ...NEW_RECORD,
      settings: checked,
      generation: { number: 1, id: randomUUID() },
      initialStartAtMs,
      ...(firstCopy === null ? {} : { firstCopy }),
    });
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
    await this.#create({
      ...NEW_RECORD,
      settings: this.requireEnableable(settings),
      generation: presentEntry(lineage).generation,
      initialStartAtMs: AT_ONCE,
      allocationMarked: true,
      firstCopy: { by: "return", lineage, formerHeadId },
    });
  }

  /** Throws what enable() would; answers the settings as they would be noted. */
  requireEnableable(
    settings: NewRelationshipSettings,
    initialStartAtMs: number | null = null,
  ): RelationshipSettings {
    this.#requireOpen();
    const checked = checkSettings(withDefaults(settings));
    this.#requireStartTime(initialStartAtMs);
    if (this.#relationships.has(checked.vmId)) {
      throw new TidemarkError(
        "ALREADY_EXISTS",
        `Cannot enable replication of ${checked.vmId}: because it is replicated already.`,
      );
    }
    this.#requireGroupInterval(checked.group ?? null, checked);
    return checked;
  }

  /** From the next cycle on; a throttle, a priority and the compression at once. */
  async change(vmId: string, change: SettingsChange): Promise<void> {
    const relationship = this.#relationship(vmId);
    const settings = checkSettings({ ...relationship.settings, ...change });
    this.#requireGroupInterval(settings.group ?? null, settings);
    await relationship.change(change);
  }

  /** Of a relationship that is ready. Default: now. */
  async startInitial(vmId: string, startAtMs = AT_ONCE): Promise<void> {
    this.#requireStartTime(startAtMs);
    await this.#relationship(vmId).startInitial(startAtMs);
  }

  /** What ports.transfers() answers has changed. */
  checkTurns(): void {
    this.#turns.check();
  }

  cancelInitial(vmId: string): Promise<void> {
    return this.#relationship(vmId).cancelInitial();
  }

  resynchronize(vmId: string): Promise<void> {
    return this.#relationship(vmId).resynchronize();
  }

  /** Begins a planned failover; the state tells how far it is. CONFLICT unless it is replicating. */
  handOver(vmId: string): Promise<void> {
    return this.#relationship(vmId).handOver();
  }

  /** Cancels a planned failover unless the replica has taken over already. */
  takeBack(vmId: string): Promise<void> {
    return this.#relationship(vmId).takeBack(askedBack);
  }

  /** Whatever the replica has become: if it has taken over, both sides have the VM from now on. */
  takeBackAlone(vmId: string): Promise<void> {
    return this.#relationship(vmId).takeBack(takenBackAlone);
  }

  has(vmId: string): boolean {
    return this.#relationships.has(vmId);
  }

  /** The id of the VM's target; null: it is not replicated. */
  targetIdOf(vmId: string): string | null {
    return this.#relationships.get(vmId)?.settings.targetId ?? null;
  }

  /** How this host stands to a VM's lineage. */
  standingOf(vmId: string): {
    readonly state: RelationshipState;
    readonly generation: Generation;
    readonly holderId: string;
  } {
    const { state, generation, holderId } = this.#relationship(vmId);
    return { state, generation, holderId };
  }

  /**
   * Lets go of the disks of a VM that went on elsewhere until the service starts again, and
   * says what they hold; nothing is noted. What cannot be found out is not known.
   */
  letGo(vmId: string, leftAt: LeftAt): Promise<OwnDifferences> {
    return this.#relationship(vmId).letGo(leftAt);
  }

  /** As remove(), of a VM whose disks are not this host's to touch any more. Idempotent. */
  async forget(vmId: string): Promise<void> {
    const relationship = this.#relationships.get(vmId);
    if (relationship === undefined) return;
    await relationship.forget();
    this.#relationships.delete(vmId);
    await this.#groups.dissolveEmpty();
  }

  suspend(vmId: string): Promise<void> {
    return this.#relationship(vmId).suspend();
  }

  resume(vmId: string): Promise<void> {
    return this.#relationship(vmId).resume();
  }

  /**
   * Compares the VM's disks with its replica, between the cycles; status() tells how far it
   * is. CONFLICT unless it is replicating, IN_USE while one is under way.
   */
  async compare(vmId: string, isRepair: boolean): Promise<void> {
    const { state, between } = this.#relationship(vmId);
    if (state !== "replicating") {
      throw new TidemarkError(
        "CONFLICT",
        `Cannot compare with the replica: because the replication's state is ${state}.`,
        { hint: "Compare when it is replicating." },
      );
    }
    between.compare(isRepair);
  }

  async stopComparison(vmId: string): Promise<void> {
    this.#relationship(vmId).between.stopComparison();
  }

  async remove(vmId: string): Promise<void> {
    await this.#relationship(vmId).remove();
    this.#relationships.delete(vmId);
    await this.#groups.dissolveEmpty();
  }

  /** From its next cycle on the VM is cut with the group's others; null: alone. */
  async setGroup(vmId: string, group: string | null): Promise<void> {
    const relationship = this.#relationship(vmId);
    this.#requireGroupInterval(group, relationship.settings);
    checkSettings({ ...relationship.settings, group: group ?? undefined });
    await relationship.setGroup(group);
    await this.#groups.dissolveEmpty();
  }

  /** Runs `change`, which lets disks of the VM come and go, between two cycles. */
  changeDisks<T>(vmId: string, change: () => Promise<T>): Promise<T> {
    return this.#relationship(vmId).changeDisks(change);
  }

  /** CONFLICT: the VM's first copy is made. */
  requireNoPoint(vmId: string): void {
    if (this.#relationship(vmId).headPointId !== null) throw copiedBefore();
  }

  /** Whose keys are needed still. */
  mediaBeingWritten(): string[] {
    return [...this.#relationships.values()].flatMap(({ firstCopy }) =>
      firstCopy?.by === "medium" && firstCopy.stage === "writing" ? [firstCopy.mediaId] : [],
    );
  }

  /** How a VM's first copy goes on; null: over the network. CONFLICT when there is one. */
  setFirstCopy(vmId: string, firstCopy: FirstCopy | null): Promise<void> {
    return this.#relationship(vmId).setFirstCopy(firstCopy);
  }

  /** The consistency groups that VMs are in. */
  groups(): readonly GroupStatus[] {
    return this.#groups.statuses();
  }

  async status(vmId: string): Promise<RelationshipStatus> {
    return this.#relationship(vmId).status();
  }

  /** What this host holds of the VM's lineage, and the replica asks for. */
  generationOf(vmId: string): Generation {
    return this.#relationship(vmId).generation;
  }

  /** Cycles missed until now are no reason for a warning any more. */
  forgetMissed(vmId: string): void {
    this.#relationship(vmId).forgetMissed();
  }

  statuses(): Promise<RelationshipStatus[]> {
    return Promise.all([...this.#relationships.values()].map((each) => each.status()));
  }

  /** The last cycles, oldest first. */
  recentCycles(vmId: string): readonly CycleReport[] {
    return this.#relationship(vmId).recentCycles;
  }

  /** Answers how to stop listening. */
  subscribe(listener: ReplicationListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Ends all loops; what was under way is given back. The store stays the caller's. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#relationships.values()].map((each) => each.stop()));
    await this.#thaws.close();
    this.#relationships.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #create(record: RelationshipRecord): Promise<void> {
    this.#add(await RelationshipJournal.create(this.#ports.store, record)).start();
  }

  #add(journal: RelationshipJournal): Relationship {
    this.#requireOpen();
    const host = { turns: this.#turns, groups: this.#groups, thaws: this.#thaws };
    const relationship = new Relationship(this.#ports, journal, host, (event) => this.#tell(event));
    this.#relationships.set(relationship.vmId, relationship);
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
    for (const relationship of this.#relationships.values()) {
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

  #relationship(vmId: string): Relationship {
    const found = this.#relationships.get(vmId);
    if (found !== undefined) return found;
    throw new TidemarkError(
      "NOT_FOUND",
      `Cannot find the replication of ${vmId}: because it is not enabled here.`,
    );
  }

  #requireOpen(): void {
    if (!this.#isClosed) return;
    throw new TidemarkError("CLOSED", "Cannot replicate: because the engine is closed.");
  }
}
