/**
 * Where the VMs of a consistency group meet for their common cut.
 *
 * Each member's relationship runs its own cycles, on one rhythm (CycleSchedule), and
 * arrives here when it is ready to be cut. When all that are expected are there, one
 * cut is taken for those who came. Nobody's guest waits meanwhile: gates close for the
 * cut only. Then each one's delta travels by itself.
 *
 * No member holds up the others for ever:
 *  - who failed, is suspended or has to copy first is not expected;
 *  - who does not come within an interval is left behind: the cut is incomplete, and
 *    its points say so (takenVmIds);
 *  - when the common cut fails (or the box for it cannot grow any more), it is given up
 *    for all, and each is cut alone, in a cut of its own and within a box of its own. Who
 *    fails at that too is cut alone until that has worked once.
 */
import type { Clock } from "../model/clock.js";
import { TidemarkError } from "../model/errors.js";
import type { GroupCut } from "../model/group-cut.js";
import type { CutMember, CutTogether, TargetChanges } from "../model/vm-tracker.js";
import type { ApplicationPoints } from "./application-points.js";
import { cutAtRest } from "./cut-at-rest.js";
import { CheckpointMissed, type GateTimeBox } from "./gate-time-box.js";

export interface GroupBarrierParts {
  readonly clock: Clock;
  readonly timeBox: GateTimeBox;
  readonly cutTogether: CutTogether;
  /** The next cut's name, durably used up. */
  readonly nextCut: () => Promise<Pick<GroupCut, "groupId" | "name" | "cutNumber">>;
}

interface Arrival {
  readonly member: GroupMember;
  readonly part: CutMember;
  readonly signal: AbortSignal;
  readonly onAbort: () => void;
  readonly resolve: (changes: TargetChanges) => void;
  readonly reject: (reason: unknown) => void;
}

/** What the barrier needs of a VM. */
export interface GroupMemberParts {
  readonly vmId: string;
  /** For cuts of the VM alone. */
  readonly timeBox: GateTimeBox;
  /** The VM's; those that the box does not record. */
  readonly onPause: (pauseNs: number) => void;
  readonly applications: ApplicationPoints;
}

/** One VM's place in its group. */
export class GroupMember {
  readonly parts: GroupMemberParts;
  readonly barrier: GroupBarrier;
  /** Its last cut failed when it was cut alone. */
  mustProveItself = false;
  #isExpected = false;

  constructor(parts: GroupMemberParts, barrier: GroupBarrier) {
    this.parts = parts;
    this.barrier = barrier;
  }

  get vmId(): string {
    return this.parts.vmId;
  }

  get isExpected(): boolean {
    return this.#isExpected && !this.mustProveItself;
  }

  /** Whether the others wait for it. */
  expect(isExpected: boolean): void {
    this.#isExpected = isExpected;
    this.barrier.check();
  }

  /** The VM's part of the group's next cut. The signal ends the waiting, not the cut. */
  arrive(part: CutMember, signal: AbortSignal): Promise<TargetChanges> {
    return this.barrier.arrive(this, part, signal);
  }

  leave(): void {
    this.barrier.remove(this);
  }
}

export class GroupBarrier {
  readonly #parts: GroupBarrierParts;
  readonly #members = new Map<string, GroupMember>();
  readonly #arrivals = new Map<GroupMember, Arrival>();
  #patience: AbortController | null = null;
  #patienceMs = 0;
  cutCount = 0;
  incompleteCutCount = 0;
  lastCut: GroupCut | null = null;

  constructor(parts: GroupBarrierParts) {
    this.#parts = parts;
  }

  get vmIds(): readonly string[] {
    return [...this.#members.keys()].sort();
  }

  /** `intervalMs` is the group's, and how long who arrives waits for the others. */
  join(parts: GroupMemberParts, intervalMs: number): GroupMember {
    const member = new GroupMember(parts, this);
    this.#members.set(parts.vmId, member);
    this.#patienceMs = intervalMs;
    return member;
  }

  remove(member: GroupMember): void {
    if (this.#members.get(member.vmId) === member) this.#members.delete(member.vmId);
    this.check();
  }

  async arrive(member: GroupMember, part: CutMember, signal: AbortSignal): Promise<TargetChanges> {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const arrival = { member, part, resolve, reject, signal, onAbort: () => {} };
      if (member.mustProveItself) {
        void this.#cutAlone(arrival);
        return;
      }
      arrival.onAbort = () => {
        this.#arrivals.delete(member);
        reject(signal.reason as Error);
        this.check();
      };
      signal.addEventListener("abort", arrival.onAbort, { once: true });
      this.#arrivals.set(member, arrival);
      this.check();
    });
  }

  /** Cuts when everybody who is expected is there. */
  check(): void {
    if (this.#arrivals.size === 0) return this.#endPatience();
    const isAwaited = (member: GroupMember) => member.isExpected && !this.#arrivals.has(member);
    if ([...this.#members.values()].some(isAwaited)) return this.#waitAWhile();
    this.#cutArrivals();
  }

  #cutArrivals(): void {
    this.#endPatience();
    const arrivals = [...this.#arrivals.values()];
    this.#arrivals.clear();
    for (const { signal, onAbort } of arrivals) signal.removeEventListener("abort", onAbort);
    if (arrivals.length > 0) void this.#cut(arrivals);
  }

  #waitAWhile(): void {
    if (this.#patience !== null) return;
    const patience = new AbortController();
    this.#patience = patience;
    this.#parts.clock.sleep(this.#patienceMs, patience.signal).then(
      () => this.#cutArrivals(),
      () => {},
    );
  }

  #endPatience(): void {
    this.#patience?.abort();
    this.#patience = null;
  }

  /** Answers every arrival; never rejects. */
  async #cut(arrivals: readonly Arrival[]): Promise<void> {
    const { timeBox } = this.#parts;
    const onPause = (pauseNs: number) => {
      for (const { member } of arrivals) member.parts.onPause(pauseNs);
    };
    try {
      const cuts = await this.#takeTogether(arrivals, timeBox);
      onPause(cuts[0]?.cut.pauseNs ?? 0);
      for (const [index, arrival] of arrivals.entries()) answer(arrival, cuts[index]);
    } catch (thrown) {
      const isMissed = thrown instanceof CheckpointMissed;
      if (isMissed) onPause(thrown.pauseNs);
      if (isMissed && !timeBox.isAtMaximum) {
        for (const { reject } of arrivals) reject(thrown);
        return;
      }
      for (const arrival of arrivals) await this.#cutAlone(arrival);
      timeBox.reset();
    }
  }

  /** Never rejects. */
  async #cutAlone(arrival: Arrival): Promise<void> {
    const { member, reject } = arrival;
    try {
      const [changes] = await this.#takeTogether([arrival], member.parts.timeBox);
      member.mustProveItself = false;
      answer(arrival, changes);
    } catch (thrown) {
      member.mustProveItself = true;
      reject(thrown);
    }
    this.check();
  }

  async #takeTogether(
    arrivals: readonly Arrival[],
    timeBox: GateTimeBox,
  ): Promise<readonly TargetChanges[]> {
    const { nextCut, cutTogether } = this.#parts;
    const takenVmIds = arrivals.map(({ member }) => member.vmId).sort();
    const group: GroupCut = { ...(await nextCut()), memberVmIds: this.vmIds, takenVmIds };
    const together = (drainLimitMs: number) =>
      cutTogether(
        arrivals.map(({ part }) => ({
          ...part,
          options: { ...part.options, drainLimitMs, group },
        })),
      );
    const vms = arrivals.map(({ member, signal }) => ({ ...member.parts, signal }));
    const cuts = await cutAtRest(vms, () => timeBox.take(together));
    this.cutCount += 1;
    if (takenVmIds.length < this.#members.size) this.incompleteCutCount += 1;
    this.lastCut = group;
    return cuts;
  }
}

function answer({ resolve, reject }: Arrival, changes: TargetChanges | undefined): void {
  if (changes !== undefined) return resolve(changes);
  reject(new TidemarkError("INTERNAL", "Cannot cut the group: because the cut has no answer."));
}
