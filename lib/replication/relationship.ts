/**
 * One VM's replication to one target, as it is controlled: a state machine
 * (transitions.ts) and a loop (relationship-loop.ts) that runs while the state is
 * an active one.
 *
 * Everything that must survive is in the journal. suspend, resume, remove and stop
 * are serialized; each first ends the loop, which gives back what it holds.
 */
import { TidemarkError } from "../model/errors.js";
import {
  type CycleReport,
  type FirstCopy,
  isGivenAway,
  type RelationshipRecord,
  type RelationshipState,
  type RelationshipStatus,
  type EventSource,
  type RelationshipNews,
  type ReplicationEvent,
} from "../model/relationship.js";
import {
  type RelationshipSettings,
  relationshipIdOf,
  type SettingsChange,
} from "../model/relationship-settings.js";
import { BetweenCycles } from "./between-cycles.js";
import { ApplicationPoints } from "./application-points.js";
import { GateTimeBox } from "./gate-time-box.js";
import type { GroupMember } from "./group-barrier.js";
import { changeFirstCopy } from "./first-copy.js";
import { ENDING } from "./ending.js";
import type { HostScope } from "./host-scope.js";
import { cancelInitial } from "./cancel-initial.js";
import { asItsReplica, requireLineage } from "./hand-over.js";
import { Nap } from "./nap.js";
import { type LeftAt, type OwnDifferences, ownDifferences } from "./own-differences.js";
import { RelationshipCondition } from "./relationship-condition.js";
import type { RelationshipJournal } from "./relationship-journal.js";
import { RelationshipLink } from "./relationship-link.js";
import { RelationshipLoop } from "./relationship-loop.js";
import type { ReplicationPorts } from "./replication-ports.js";
import { DEFAULT_REPLICATION_LIMITS, type ReplicationLimits } from "./replication-limits.js";
import { removeTarget } from "./remove-target.js";
import { noteDepartures } from "./target-bits.js";
import { endOrphans } from "./give-back.js";

interface RunningLoop {
  readonly stop: AbortController;
  readonly ended: Promise<void>;
}

export class Relationship {
  readonly journal: RelationshipJournal;
  /** What is done while no cut is open. */
  readonly between: BetweenCycles;
  readonly #ports: ReplicationPorts;
  readonly #limits: ReplicationLimits;
  readonly #host: HostScope;
  readonly #applications: ApplicationPoints;
  readonly #condition: RelationshipCondition;
  readonly #timeBox: GateTimeBox;
  readonly #link: RelationshipLink;
  readonly #nap: Nap;
  #group: GroupMember | null;
  #running: RunningLoop | null = null;
  #serial: Promise<unknown> = Promise.resolve();

  constructor(
    ports: ReplicationPorts,
    journal: RelationshipJournal,
    host: HostScope,
    tell: (event: ReplicationEvent) => void,
  ) {
    const emit = (news: RelationshipNews) => tell({ ...this.#source, ...news });
    const limits = { ...DEFAULT_REPLICATION_LIMITS, ...ports.limits };
    const { historyLength, drainLimitMs, drainLimitMaxMs } = limits;
    const condition = new RelationshipCondition(journal, ports.clock, historyLength, emit);
    const turn = host.turns.checkpoint;
    const timeBox = new GateTimeBox(drainLimitMs, drainLimitMaxMs, turn, condition.pauses);
    const vmName = () => this.#link.context?.vm.name ?? this.vmId;
    const parts = { journal, clock: ports.clock, thaws: host.thaws, limits };
    const applications = new ApplicationPoints({ ...parts, vmName, emit });
    const group = () => this.#group;
    this.#ports = ports;
    this.journal = journal;
    this.#limits = limits;
    this.#condition = condition;
    this.#timeBox = timeBox;
    this.#nap = new Nap(ports.clock);
    this.between = new BetweenCycles(ports.clock, this.#nap);
    const own = { journal, limits, timeBox, condition, applications, group };
    this.#link = new RelationshipLink({ ports, guests: host.guests, ...own });
    this.#applications = applications;
    this.#host = host;
    this.#group = this.#joinGroup();
  }

  get state(): RelationshipState {
    return this.#condition.state;
  }

  get id(): string {
    return relationshipIdOf(this.journal.record.settings);
  }

  get vmId(): string {
    return this.journal.record.settings.vmId;
  }

  get settings(): RelationshipSettings {
    return this.journal.record.settings;
  }

  forgetMissed(): void {
    this.#condition.forgetMissed();
  }

  get recentCycles(): readonly CycleReport[] {
    return this.#condition.recentCycles;
  }

  /** To its replica, or almost. */
  get isGivenAway(): boolean {
    return isGivenAway(this.journal.record);
  }

  get #source(): EventSource {
    const { vmId, targetId, targetName } = this.settings;
    return targetName === undefined ? { vmId } : { vmId, targetId };
  }

  /** Begins to work unless suspended. */
  start(): void {
    if (this.#running !== null || this.state === "suspended") return;
    const stop = new AbortController();
    const loop = new RelationshipLoop({
      ports: this.#ports,
      journal: this.journal,
      limits: this.#limits,
      condition: this.#condition,
      link: this.#link,
      between: this.between,
      nap: this.#nap,
      ...this.#host,
      group: () => this.#group,
    });
    this.#running = { stop, ended: loop.run(stop.signal) };
  }

  /** Ends cleanly: what is under way is given back, the state stays as it is. */
  stop(): Promise<void> {
    return this.#serialized(async () => {
      await this.#halt();
      await this.#link.disconnect();
    });
  }

  suspend(): Promise<void> {
    return this.#serialized(async () => {
      if (this.state === "suspended") return;
      this.#condition.next("suspend");
      await this.#halt();
      await this.#note("suspended");
    });
  }

  /** Goes on after suspend, or tries at once what it would try again later. */
  resume(): Promise<void> {
    return this.#serialized(async () => {
      const resumable = ["suspended", "error", "handing-over", "failed-over"];
      if (this.#running !== null && !resumable.includes(this.state)) return;
      await this.#halt();
      if (this.state === "suspended") await this.#note(this.#condition.next("resume"));
      this.start();
    });
  }

  /** Durable when it resolves; what is under way goes on, the next cycle goes by it. */
  change(
    change: SettingsChange & Partial<Pick<RelationshipSettings, "targetName">>,
  ): Promise<void> {
    return this.#serialized(async () => {
      const { group } = this.journal.record.settings;
      const isOtherRhythm = change.intervalMs !== undefined && group !== undefined;
      if (isOtherRhythm) await this.#halt();
      await this.#goingOn(() =>
        this.journal.insist(({ settings }) => ({ settings: { ...settings, ...change } })),
      );
      if (isOtherRhythm) this.#rejoinGroup();
      this.#nap.wake();
      this.start();
    });
  }

  /** Of initial replication: at that time instead of when it was to begin. */
  startInitial(startAtMs: number): Promise<void> {
    return this.#serialized(async () => {
      if (this.state !== "ready") throw this.#unfit("start initial replication");
      await this.journal.insist({ initialStartAtMs: startAtMs });
      this.#nap.wake();
    });
  }

  /** Gives up what was copied; changes are tracked on, and it may begin again. */
  cancelInitial(): Promise<void> {
    return this.#serialized(async () => {
      const state = this.#condition.next("cancel");
      await this.#halt();
      // The point may have been committed in the meantime.
      if (this.#condition.hasPoint) {
        this.start();
        throw this.#unfit("cancel initial replication");
      }
      const context = await this.#link.connect().catch(() => null);
      await this.#goingOn(() => cancelInitial(this.journal, context, state));
      this.#condition.settle();
      this.start();
    });
  }

  /** Compares what is suspect with the replica now, whatever the policy says. */
  resynchronize(): Promise<void> {
    return this.#serialized(async () => {
      if (this.state !== "resynchronization-required") throw this.#unfit("resynchronize");
      await this.journal.insist({ isResyncOrdered: true });
      this.#nap.wake();
    });
  }

  /** A planned failover: from now on no guest writes here; what is not sent yet goes, then the replica takes over. */
  handOver(): Promise<void> {
    return this.#serialized(async () => {
      const state = this.#condition.next("hand over");
      await requireLineage(await this.#link.connect());
      await this.#halt();
      // What is suspect is compared first, whatever the policy says.
      const handOver = asItsReplica(this.journal.record);
      const note = () => this.journal.insist({ state, handOver, isResyncOrdered: true });
      await this.#goingOn(() => this.#host.guests.giveAway(note));
      this.#condition.settle();
      this.start();
    });
  }

  /** Of a planned failover that the replica has not answered yet: askedBack, or takenBackAlone. */
  takeBack(how: (record: RelationshipRecord) => Partial<RelationshipRecord>): Promise<void> {
    return this.#serialized(async () => {
      if (this.state !== "handing-over") throw this.#unfit("cancel the planned failover");
      await this.#halt();
      await this.#goingOn(() => this.journal.insist(how));
      this.#condition.settle();
      this.start();
    });
  }

  /** Null: none. The cycle that is under way is given back, and its changes travel with the next. */
  setGroup(group: string | null): Promise<void> {
    return this.#serialized(async () => {
      await this.#halt();
      const own = { group: group ?? undefined };
      await this.#goingOn(() =>
        this.journal.insist(({ settings }) => ({ settings: { ...settings, ...own } })),
      );
      this.#rejoinGroup();
      this.start();
    });
  }

  /** Null: over the network. What another way has brought so far is given up. */
  setFirstCopy(firstCopy: FirstCopy | null): Promise<void> {
    return this.#serialized(async () => {
      await this.#halt();
      try {
        await this.journal.refresh();
        await changeFirstCopy(await this.#link.connect(), firstCopy);
      } finally {
        this.start();
      }
    });
  }

  /**
   * Lets disks come and go while none is being cut. What is noted of the disks beforehand tells
   * afterwards, however this ends, which are new and which are not.
   */
  changeDisks<T>(change: () => Promise<T>): Promise<T> {
    return this.#serialized(async () => {
      await this.#halt();
      try {
        await this.journal.refresh();
        const context = await this.#link.connect().catch(() => null);
        if (context !== null) {
          await endOrphans(context);
          await noteDepartures(context);
        }
        return await change();
      } finally {
        this.#link.forgetVm();
        this.start();
      }
    });
  }

  /**
   * Ends the relationship; the replica keeps its points. Noted in an order in
   * which an interruption leaves something that can be removed again, and never
   * a relationship that trusts bits which are gone.
   */
  remove(): Promise<void> {
    return this.#serialized(async () => {
      await this.#halt();
      const note = () => this.journal.insistUnlessGone(ENDING).then(() => this.#condition.settle());
      await this.#goingOn(() => this.#host.guests.giveUp(note));
      await removeTarget(this.#link);
      await this.journal.delete();
      this.#group?.leave();
      await this.#link.disconnect();
    });
  }

  /** Of the VM's disks; it does not touch them again until it is started. */
  letGo(leftAt: LeftAt): Promise<OwnDifferences> {
    const find = () => ownDifferences(this.#link, leftAt);
    return this.#serialized(() => this.#halt().then(find));
  }

  /** The record goes; the VM's bitmaps are not touched. */
  forget(): Promise<void> {
    return this.#serialized(async () => {
      await this.#halt();
      await this.journal.delete();
      this.#group?.leave();
      await this.#link.disconnect();
    });
  }

  async status(): Promise<RelationshipStatus> {
    const { group } = this.journal.record.settings;
    const progress = await this.#link.progress().catch(() => null);
    const grownDrainLimitMs = this.#timeBox.hasGrown
      ? this.#timeBox.limitMs
      : this.#host.groups.grownDrainLimitMs(group ?? null);
    return this.#condition.status({
      progress,
      grownDrainLimitMs,
      comparison: this.between.comparison,
      applications: this.#applications.status(),
    });
  }

  /** Durable when it resolves; goes on as before when it cannot be noted. */
  async #note(state: RelationshipState): Promise<void> {
    await this.#goingOn(() => this.journal.insist({ state }));
    this.#condition.settle();
  }

  /** What cannot be noted leaves the relationship at work as before. */
  async #goingOn(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (thrown) {
      this.start();
      throw thrown;
    }
  }

  #unfit(what: string): TidemarkError {
    return new TidemarkError("CONFLICT", `Cannot ${what}: because its state is ${this.state}.`, {
      hint: "`tidemark vm status` shows what it is doing; docs/relationship-states.md what fits.",
    });
  }

  async #halt(): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    running.stop.abort(new TidemarkError("CANCELLED", "Replication is being stopped."));
    this.#group?.expect(false);
    await running.ended;
    this.#running = null;
  }

  #rejoinGroup(): void {
    this.#group?.leave();
    this.#group = this.#joinGroup();
  }

  #joinGroup(): GroupMember | null {
    const { group, intervalMs } = this.journal.record.settings;
    if (group === undefined) return null;
    const onPause = (pauseNs: number) => this.#condition.pauses.record(pauseNs);
    const own = { timeBox: this.#timeBox, applications: this.#applications };
    return this.#host.groups.join(group, { vmId: this.vmId, onPause, ...own }, intervalMs);
  }

  #serialized<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#serial.then(work);
    this.#serial = result.catch(() => {});
    return result;
  }
}
