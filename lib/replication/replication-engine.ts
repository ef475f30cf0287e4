/** All relationships of this host as primary. */
import { randomUUID } from "node:crypto";
import { TidemarkError } from "../model/errors.js";
import type {
  CycleReport,
  GroupStatus,
  RelationshipSettings,
  RelationshipStatus,
  ReplicationEvent,
} from "../model/relationship.js";
import { parseUuid } from "../model/uuid.js";
import { CheckpointTurn } from "./checkpoint-turn.js";
import { HostGroups } from "./host-groups.js";
import { Relationship } from "./relationship.js";
import { RELATIONSHIP_PREFIX, RelationshipJournal } from "./relationship-journal.js";
import { DEFAULT_REPLICATION_LIMITS } from "./replication-limits.js";
import type { ReplicationPorts } from "./replication-ports.js";

export type ReplicationListener = (event: ReplicationEvent) => void;

const SHORTEST_INTERVAL_MS = 100;

export class ReplicationEngine implements AsyncDisposable {
  readonly #ports: ReplicationPorts;
  readonly #turn = new CheckpointTurn();
  readonly #groups: HostGroups;
  readonly #relationships = new Map<string, Relationship>();
  readonly #listeners = new Set<ReplicationListener>();
  #isClosed = false;

  constructor(ports: ReplicationPorts) {
    this.#ports = ports;
    const limits = { ...DEFAULT_REPLICATION_LIMITS, ...ports.limits };
    this.#groups = new HostGroups({ ...ports, turn: this.#turn, limits });
  }

  /** Goes on with every relationship of the store. Resolves without waiting for any replica. */
  async start(): Promise<void> {
    const { store } = this.#ports;
    const documents = await store.list(RELATIONSHIP_PREFIX);
    // All are in their groups before the first one begins.
    const added = documents.map((each) => this.#add(RelationshipJournal.fromDocument(store, each)));
    for (const relationship of added) relationship.start();
  }

  /** Durably begins a relationship; initial replication runs from here on by itself. */
  async enable(settings: RelationshipSettings): Promise<void> {
    this.#requireOpen();
    const checked = checkSettings(settings);
    if (this.#relationships.has(checked.vmId)) {
      throw new TidemarkError(
        "ALREADY_EXISTS",
        `Cannot enable replication of ${checked.vmId}: because it is replicated already.`,
      );
    }
    this.#requireGroupInterval(checked.group ?? null, checked);
    const journal = await RelationshipJournal.create(this.#ports.store, {
      settings: checked,
      state: "ready",
      generation: { number: 1, id: randomUUID() },
      headPointId: null,
      cutSequence: 0,
      inDoubt: null,
      stagingSessionId: null,
      allocationMarked: false,
    });
    this.#add(journal).start();
  }

  suspend(vmId: string): Promise<void> {
    return this.#relationship(vmId).suspend();
  }

  resume(vmId: string): Promise<void> {
    return this.#relationship(vmId).resume();
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
    await relationship.setGroup(group);
    await this.#groups.dissolveEmpty();
  }

  /** The consistency groups that VMs are in. */
  groups(): readonly GroupStatus[] {
    return this.#groups.statuses();
  }

  status(vmId: string): Promise<RelationshipStatus> {
    return this.#relationship(vmId).status();
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
    this.#relationships.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #add(journal: RelationshipJournal): Relationship {
    this.#requireOpen();
    const relationship = new Relationship(this.#ports, journal, this.#turn, this.#groups, (event) =>
      this.#tell(event),
    );
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
        `Cannot join consistency group ${group}: because its VMs are cut every ${other.intervalMs} ms.`,
        { hint: "Give the VM the group's interval." },
      );
    }
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

function checkSettings(settings: RelationshipSettings): RelationshipSettings {
  const { intervalMs } = settings;
  if (!Number.isSafeInteger(intervalMs) || intervalMs < SHORTEST_INTERVAL_MS) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot replicate every ${intervalMs} ms: because the shortest interval is ${SHORTEST_INTERVAL_MS} ms.`,
    );
  }
  const vmId = parseUuid(settings.vmId, "VM id");
  return { ...settings, vmId, targetId: parseUuid(settings.targetId, "target id") };
}
