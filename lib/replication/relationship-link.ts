import type { RelationshipSettings } from "../model/relationship-settings.js";
import type { TargetChanges, TargetProgress } from "../model/vm-tracker.js";
import type { ApplicationPoints } from "./application-points.js";
import type { GateTimeBox } from "./gate-time-box.js";
import type { GuestAccess } from "./guest-access.js";
import type { GroupMember } from "./group-barrier.js";
import type { RelationshipCondition } from "./relationship-condition.js";
import type { RelationshipContext } from "./relationship-context.js";
import type { RelationshipJournal } from "./relationship-journal.js";
import type { ReplicationLimits } from "./replication-limits.js";
import type { OpenedReplica, OpenedVm, ReplicationPorts } from "./replication-ports.js";

export interface RelationshipLinkParts {
  readonly ports: ReplicationPorts;
  readonly journal: RelationshipJournal;
  readonly limits: ReplicationLimits;
  readonly timeBox: GateTimeBox;
  readonly condition: RelationshipCondition;
  readonly applications: ApplicationPoints;
  readonly guests: GuestAccess;
  /** The VM's place in its consistency group. */
  readonly group: () => GroupMember | null;
}

/** A relationship's ways to its VM and its replica, opened when they are needed. */
export class RelationshipLink {
  readonly #parts: RelationshipLinkParts;
  readonly #orphans = new Set<TargetChanges>();
  #endpoint: OpenedReplica | null = null;
  /** Where the endpoint leads, and by which way. */
  #address = "";
  #context: RelationshipContext | null = null;

  constructor(parts: RelationshipLinkParts) {
    this.#parts = parts;
  }

  /** Null until connect() has worked. */
  get context(): RelationshipContext | null {
    return this.#context;
  }

  /** Of the VM's changes, also while nothing is connected. */
  async progress(): Promise<TargetProgress> {
    const { ports, journal } = this.#parts;
    const { vmId, targetId } = journal.record.settings;
    const { tracker } = this.#context ?? (await ports.openVm(vmId));
    return tracker.progress(targetId);
  }

  /** Only between two cycles: a replica at another address makes another context. */
  async connect(): Promise<RelationshipContext> {
    if (this.#context !== null && !this.#isOutdated) return this.#context;
    if (this.#isOutdated) await this.disconnect();
    const { ports, journal } = this.#parts;
    const { settings } = journal.record;
    const vm = await ports.openVm(settings.vmId);
    const endpoint = this.#endpoint ?? ports.openReplica(() => journal.record.settings);
    this.#endpoint = endpoint;
    this.#address = addressOf(settings);
    this.#context = this.#newContext(vm, endpoint);
    return this.#context;
  }

  /** The VM is opened again: its disks are others. */
  forgetVm(): void {
    this.#context = null;
  }

  #newContext(
    { name, tracker, excludedDisks }: OpenedVm,
    endpoint: OpenedReplica,
  ): RelationshipContext {
    const { ports, journal, limits, timeBox, condition, applications, guests, group } = this.#parts;
    const { vmId, targetId } = journal.record.settings;
    return {
      random: ports.random ?? Math.random,
      limits,
      segmentBytes: () =>
        Math.min(limits.segmentBytes, endpoint.largestSegmentBytes?.() ?? limits.segmentBytes),
      vm: {
        vmId,
        name,
        // They may grow.
        get disks() {
          return tracker.disks;
        },
        get excludedDisks() {
          return excludedDisks?.();
        },
      },
      targetId,
      tracker,
      endpoint,
      journal,
      clock: ports.clock,
      timeBox,
      applications,
      group,
      orphans: this.#orphans,
      onRetry: (error) => condition.noteError(error, ports.clock.nowMs()),
      onReturn: (note) => guests.give(note),
      onHealing: (report) => {
        group()?.expect(false);
        condition.noteHealing(report);
      },
      onStagingProgress: (sentBytes, totalBytes) =>
        condition.noteInitialProgress(sentBytes, totalBytes),
    };
  }

  async disconnect(): Promise<void> {
    const endpoint = this.#endpoint;
    this.#endpoint = null;
    this.#context = null;
    await endpoint?.[Symbol.asyncDispose]?.();
  }

  get #isOutdated(): boolean {
    const { settings } = this.#parts.journal.record;
    return this.#endpoint !== null && this.#address !== addressOf(settings);
  }
}

function addressOf({ replicaUrl, proxyUrl }: RelationshipSettings): string {
  return `${replicaUrl} ${proxyUrl ?? ""}`;
}
