import type { Clock } from "../model/clock.js";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import { type FailoverLoss, failoverLoss } from "../model/failover-loss.js";
import type { GroupOrderReport, MemberOutcome } from "../model/group-failover.js";
import { isGivenAway } from "../model/relationship.js";
import { AsyncLock } from "../replica/async-lock.js";
import { nextState } from "../replication/transitions.js";
import { chooseFailoverCut, type FailoverCut } from "./choose-failover-cut.js";
import type { CutChoice } from "./choose-group-cut.js";
import {
  type CutMember,
  cutMembers,
  type GroupMember,
  groupMembers,
  type GroupParts,
  vmNames,
} from "./group-members.js";
import { requireShutDown } from "./require-shut-down.js";
import { requireSilentPrimary } from "./require-silent-primary.js";

type Work = (vmId: string) => Promise<FailoverLoss | null>;
type OrderedMember = Pick<GroupMember, "vmId" | "name">;

/**
 * Failovers of all VMs of a consistency group. What speaks against an order is found before
 * anything is done for any of them; what fails afterwards is one VM's outcome and keeps
 * nobody else. Each order may be repeated until it is done for all.
 */
export class GroupFailovers {
  readonly #parts: GroupParts;
  readonly #clock: Clock;
  /** Two orders for one group would leave it half at one cut and half at another. */
  readonly #lock = new AsyncLock();

  constructor(parts: GroupParts, clock: Clock) {
    this.#parts = parts;
    this.#clock = clock;
  }

  /** All of them go on from one cut. CONFLICT while a primary of theirs seems to live, unless `force`. */
  failOver(group: string, choice: CutChoice, force: boolean): Promise<GroupOrderReport> {
    return this.#lock.run(async () => {
      const { replicaStore } = this.#parts;
      const nameOf = await vmNames(this.#parts);
      const { cut, members } = await chooseFailoverCut(replicaStore, group, choice, nameOf);
      const named = members.map((member) => ({ ...member, name: nameOf(member.vmId) }));
      const release = await this.#hold(named);
      try {
        const todo = named.filter(({ isFailedOver }) => !isFailedOver);
        for (const { vmId, pointId } of force ? [] : todo) {
          await requireSilentPrimary(this.#parts, vmId, pointId);
        }
        const outcomes = await this.#order(named, todo, (vmId) => this.#failOverTo(vmId, members));
        return { group, cut, members: outcomes };
      } finally {
        release();
      }
    });
  }

  /** Hands all of them over to their replicas; `force` cuts off guests that have disks open. */
  handOver(group: string, force: boolean): Promise<GroupOrderReport> {
    return this.#lock.run(async () => {
      const members = await cutMembers(this.#parts, group);
      const todo = members.filter((member) => !isGivenAway(member));
      requireReady(group, todo);
      if (!force) await this.#requireShutDown(todo, `fail group ${group} over`);
      const work = (vmId: string) => this.#parts.engine.handOver(vmId).then(() => null);
      return { group, cut: null, members: await this.#order(members, todo, work) };
    });
  }

  /** Gives back what was failed over here, takes back what is being handed over from here. */
  cancel(group: string, force: boolean): Promise<GroupOrderReport> {
    return this.#lock.run(async () => {
      const { failovers, engine } = this.#parts;
      const members = await groupMembers(this.#parts, group);
      const here = members.filter(({ standing }) => standing === "failed over");
      const leaving = members.filter(({ standing }) => standing === "handing over");
      const todo = [...here, ...leaving];
      if (todo.length === 0) throw refused("cancel", group, "none of its VMs was failed over here");
      if (!force) await this.#requireShutDown(here, `cancel the failover of group ${group}`);
      const outcomes = await this.#order(members, todo, async (vmId) => {
        await (here.some((member) => member.vmId === vmId)
          ? failovers.cancel(vmId)
          : engine.takeBack(vmId));
        return null;
      });
      return { group, cut: null, members: outcomes };
    });
  }

  /** All of them, or none while one was not failed over: it could not follow to the same cut any more. */
  commit(group: string): Promise<GroupOrderReport> {
    return this.#lock.run(async () => {
      const { failovers } = this.#parts;
      const members = await groupMembers(this.#parts, group);
      const left = members.filter(
        ({ standing }) => standing === "replica" || standing === "unknown here",
      );
      if (left.length > 0) throw refused("complete", group, `${namesOf(left)} does not run here`);
      const todo = members.filter(({ standing }) => standing === "failed over");
      const work = (vmId: string) => failovers.commit(vmId).then(() => null);
      return { group, cut: null, members: await this.#order(members, todo, work) };
    });
  }

  async #order(
    members: readonly OrderedMember[],
    todo: readonly OrderedMember[],
    work: Work,
  ): Promise<readonly MemberOutcome[]> {
    const outcomes: MemberOutcome[] = [];
    for (const member of members) {
      const { vmId, name } = member;
      const before = { vmId, name, outcome: "done before", loss: null, error: null } as const;
      if (!todo.includes(member)) outcomes.push(before);
      else {
        outcomes.push(
          await work(vmId).then(
            (loss): MemberOutcome => ({ ...before, outcome: "done", loss }),
            (thrown: unknown): MemberOutcome => ({
              ...before,
              outcome: "failed",
              error: toTidemarkError(thrown),
            }),
          ),
        );
      }
    }
    return outcomes;
  }

  async #failOverTo(vmId: string, members: FailoverCut["members"]): Promise<FailoverLoss | null> {
    const { replicaStore, failovers } = this.#parts;
    const pointId = members.find((member) => member.vmId === vmId)?.pointId ?? "";
    const points = await replicaStore.points(vmId);
    await failovers.failOver(vmId, pointId);
    const point = points.find((each) => each.pointId === pointId);
    const head = points.at(-1);
    if (point === undefined || head === undefined) return null;
    return failoverLoss(point, head, this.#clock.nowMs());
  }

  /** That every point is there, and that none is given up before its VM runs from it. */
  async #hold(members: readonly (OrderedMember & FailoverCut["members"][number])[]) {
    const { replicaStore, vms } = this.#parts;
    const held: { release(): void }[] = [];
    const release = () => held.forEach((point) => point.release());
    try {
      for (const { vmId, pointId, name, isFailedOver } of members) {
        if (isFailedOver) continue;
        vms.requireFree(name);
        held.push(await replicaStore.openPoint(vmId, pointId, "passing"));
      }
      return release;
    } catch (thrown) {
      release();
      throw thrown;
    }
  }

  async #requireShutDown(members: readonly OrderedMember[], what: string): Promise<void> {
    for (const { vmId } of members) {
      const definition = this.#parts.vms.find(vmId);
      if (definition !== null) await requireShutDown(this.#parts, definition, what);
    }
  }
}

/** CONFLICT names all that cannot be handed over as they stand. */
function requireReady(group: string, members: readonly CutMember[]): void {
  const unready = members.filter(
    ({ state, hasPoint }) => nextState(state, "hand over", hasPoint) === null,
  );
  if (unready.length === 0) return;
  const states = unready.map(({ name, state }) => `${name} is in state ${state}`).join(", ");
  throw refused("begin", group, states);
}

function namesOf(members: readonly OrderedMember[]): string {
  return members.map(({ name }) => name).join(", ");
}

function refused(what: "begin" | "cancel" | "complete", group: string, why: string): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    `Cannot ${what} the failover of group ${group}: because ${why}.`,
    {
      hint: "`tidemark vm status` shows how each of its VMs stands; `tidemark vm` has the same orders for one of them.",
    },
  );
}
