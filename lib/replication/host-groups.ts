/** The consistency groups of this host: a group is there while a VM is in it. */
import { randomUUID } from "node:crypto";
import type { Clock } from "../model/clock.js";
import type { GroupCut } from "../model/group-cut.js";
import { PauseHistogram } from "../model/pause-histogram.js";
import type { GroupStatus } from "../model/relationship.js";
import type { StateStore } from "../model/state-store.js";
import type { CutTogether } from "../model/vm-tracker.js";
import type { CheckpointTurn } from "./checkpoint-turn.js";
import { GateTimeBox } from "./gate-time-box.js";
import { GroupBarrier, type GroupMember, type GroupMemberParts } from "./group-barrier.js";
import type { ReplicationLimits } from "./replication-limits.js";

const GROUP_PREFIX = "groups/";

interface GroupRecord {
  readonly groupId: string;
  readonly lastCutNumber: number;
}

export interface HostGroupsParts {
  readonly store: StateStore;
  readonly clock: Clock;
  readonly turn: CheckpointTurn;
  readonly limits: Pick<ReplicationLimits, "drainLimitMs" | "drainLimitMaxMs">;
  readonly cutTogether: CutTogether;
}

interface HostGroup {
  readonly name: string;
  readonly barrier: GroupBarrier;
  readonly timeBox: GateTimeBox;
  readonly pauses: PauseHistogram;
}

export class HostGroups {
  readonly #parts: HostGroupsParts;
  readonly #groups = new Map<string, HostGroup>();

  constructor(parts: HostGroupsParts) {
    this.#parts = parts;
  }

  /** All members of a group have one interval. */
  join(name: string, parts: GroupMemberParts, intervalMs: number): GroupMember {
    const group = this.#groups.get(name) ?? this.#newGroup(name);
    return group.barrier.join(parts, intervalMs);
  }

  /** Forgets groups without members: a later one of the name is another group. */
  async dissolveEmpty(): Promise<void> {
    for (const { name, barrier } of this.#groups.values()) {
      if (barrier.vmIds.length > 0) continue;
      this.#groups.delete(name);
      await this.#parts.store.delete(GROUP_PREFIX + name);
    }
  }

  /** How long the name's group may hold writes now, when that grew. */
  grownDrainLimitMs(name: string | null): number | null {
    const timeBox = name === null ? undefined : this.#groups.get(name)?.timeBox;
    return timeBox?.hasGrown === true ? timeBox.limitMs : null;
  }

  statuses(): readonly GroupStatus[] {
    return [...this.#groups.values()].map(({ name, barrier, pauses }) => ({
      name,
      vmIds: barrier.vmIds,
      cutCount: barrier.cutCount,
      incompleteCutCount: barrier.incompleteCutCount,
      lastCut: barrier.lastCut,
      pauses: pauses.summary(),
    }));
  }

  #newGroup(name: string): HostGroup {
    const { clock, cutTogether, turn, limits } = this.#parts;
    const pauses = new PauseHistogram();
    const timeBox = new GateTimeBox(limits.drainLimitMs, limits.drainLimitMaxMs, turn, pauses);
    const nextCut = () => this.#nextCut(name);
    const barrier = new GroupBarrier({ clock, timeBox, cutTogether, nextCut });
    const group = { name, barrier, timeBox, pauses };
    this.#groups.set(name, group);
    return group;
  }

  /**
   * Durable before the cut. Not below the wall clock's milliseconds, so that a store that
   * is restored from a backup does not name a cut that replicas know already.
   */
  async #nextCut(name: string): Promise<Pick<GroupCut, "groupId" | "name" | "cutNumber">> {
    const { store, clock } = this.#parts;
    const document = await store.get(GROUP_PREFIX + name);
    const { groupId, lastCutNumber } = (document?.value as GroupRecord | undefined) ?? {
      groupId: randomUUID(),
      lastCutNumber: 0,
    };
    const cutNumber = Math.max(lastCutNumber + 1, Math.floor(clock.nowMs()));
    const record: GroupRecord = { groupId, lastCutNumber: cutNumber };
    await store.put(GROUP_PREFIX + name, record, document?.version ?? 0);
    return { groupId, name, cutNumber };
  }
}
