import { setTimeout as sleep } from "node:timers/promises";
import type { RecoveryPointBody } from "#lib/management/schemas.js";
import { readDisk } from "../journal-oracle.js";
import { NbdClient } from "../nbd-client.js";
import type { Branch } from "./branch.js";
import type { BranchGuest } from "./branch-guest.js";
import type { RoundKind, RoundPlan } from "./round-plan.js";
import { INTERVAL_MS, VM, type WanderingVm } from "./wandering-vm.js";

const A_WHILE_MS = 150;

/** What a round was for, in numbers. */
export interface RoundOutcome {
  /** Of the old primary's writes, as the chosen point and the guest's own account say. */
  readonly lostWrites: number;
}

const NOTHING_LOST: RoundOutcome = { lostWrites: 0 };

const KINDS: Readonly<
  Record<RoundKind, (vm: WanderingVm, plan: RoundPlan) => Promise<RoundOutcome>>
> = {
  "test failover": testFailover,
  "unplanned, cancelled": cancelled,
  "unplanned, reversed": reversed,
  planned,
  "planned, called off": calledOff,
};

/** From a VM that is replicated to one that is, whichever host has it then. */
export async function playRound(vm: WanderingVm, plan: RoundPlan): Promise<RoundOutcome> {
  await vm.judgePoints();
  await vm.closeTests(vm.replica);
  if (plan.failpoint !== null) await vm.host(plan.failpoint.side).arm(plan.failpoint.name);
  const { kill } = plan;
  const victim = kill === null ? null : vm.host(kill.side);
  const killing = sleep(kill?.afterMs ?? 0).then(() => victim?.kill());
  const outcome = await KINDS[plan.kind](vm, plan);
  await killing;
  await equalAtRest(vm);
  return outcome;
}

/** With the guest at rest its disks, what it had acknowledged, and the replica are one. */
async function equalAtRest(vm: WanderingVm): Promise<void> {
  await vm.guest.pause();
  await vm.replicated();
  const head = (await vm.points()).at(-1);
  const content = await vm.served(vm.primary);
  vm.faults.push(...vm.branch.judge("what is served", content, vm.branch.ackedLength).faults);
  vm.same("the replica's head", await vm.contentOfPoint(head?.pointId ?? ""), content);
  vm.guest.resume();
}

async function choosePoint(vm: WanderingVm, plan: RoundPlan) {
  const points = await vm.points();
  const point = points[Math.floor(plan.pointFraction * points.length)];
  if (point === undefined) throw new Error("there is no point");
  const content = await vm.contentOfPoint(point.pointId);
  const branch = vm.branchOf(point.pointId);
  const isPresent = branch === vm.branch;
  const atLeast = isPresent ? branch.ackedBefore(point.validUntilMs) : branch.ackedLength;
  const finding = branch.judge(`the chosen point ${point.sequence}`, content, atLeast);
  vm.faults.push(...finding.faults);
  return { point, content, keptLength: isPresent ? finding.length : 0 };
}

async function testFailover(vm: WanderingVm, plan: RoundPlan): Promise<RoundOutcome> {
  const { point, content } = await choosePoint(vm, plan);
  const { pointId } = point;
  await vm.waitFor("a drill", async () => {
    const opened = await vm.replica.api.call("testFailover", { pointId }, { vm: VM });
    for (const { uri } of opened.disks) {
      const client = await NbdClient.connect(uri);
      await client.write(0, Buffer.alloc(64 << 10, 7));
      client.close();
      if ((await readDisk(uri))[0] !== 7) vm.faults.push("a test failover lost what it was told");
    }
    await vm.replica.api.call("exportClose", {}, { export: opened.exportId });
    return true;
  });
  await sleep(A_WHILE_MS);
  vm.same("the point after its test", await vm.contentOfPoint(pointId), content);
  return NOTHING_LOST;
}

interface Promoted {
  readonly branch: Branch;
  readonly guest: BranchGuest;
  readonly old: BranchGuest;
  readonly lostWrites: number;
}

/** The replica goes on from a point, whatever the old primary does meanwhile. */
async function promote(vm: WanderingVm, plan: RoundPlan): Promise<Promoted> {
  const { point, content, keptLength } = await choosePoint(vm, plan);
  const { guest: old, replica, primary } = vm;
  if (plan.oldPrimary === "is dead") await primary.down();
  if (plan.oldPrimary === "hangs") primary.process.pause();
  await failOver(vm, point);
  vm.same("what runs after a failover", await vm.served(replica), content);
  const lostWrites = vm.branch.ackedLength - keptLength;
  const branch = vm.newBranch(content);
  const guest = await vm.boot(replica, branch);
  await sleep(A_WHILE_MS);
  return { branch, guest, old, lostWrites };
}

function failOver(vm: WanderingVm, { pointId }: RecoveryPointBody): Promise<unknown> {
  const call = () => vm.replica.api.call("failover", { pointId, force: true }, { vm: VM });
  return vm.order("a failover", vm.replica, call, ({ role, promotion }) => {
    if (role === "primary" && promotion?.pointId !== pointId) {
      vm.faults.push(`it goes on from ${promotion?.pointId ?? "nothing"}, not from ${pointId}`);
    }
    return role === "primary";
  });
}

/** As SIGCONT, a repair or a restart would have it. */
function wake(vm: WanderingVm, plan: RoundPlan): void {
  if (plan.oldPrimary === "hangs") vm.primary.process.resume();
  vm.primary.up();
}

async function cancelled(vm: WanderingVm, plan: RoundPlan): Promise<RoundOutcome> {
  const { guest, old, lostWrites } = await promote(vm, plan);
  if (plan.isNoticed) {
    wake(vm, plan);
    await isFenced(vm);
  }
  await guest.shutDown();
  const cancel = () => vm.replica.api.call("failoverCancel", { force: true }, { vm: VM });
  await vm.order("its cancellation", vm.replica, cancel, ({ role }) => role === "replica");
  if (!plan.isNoticed) wake(vm, plan);
  const resume = () => vm.primary.api.call("vmResume", {}, { vm: VM });
  await vm.order("the old primary to go on", vm.primary, resume, ({ relationship, disks }) => {
    return relationship?.state === "replicating" && disks.every(({ uri }) => uri !== null);
  });
  await old.pause();
  const back = await vm.served(vm.primary);
  vm.faults.push(...vm.branch.judge("what came back", back, vm.branch.ackedLength).faults);
  old.resume();
  return { lostWrites };
}

/** It has found out itself, and nobody reaches its disks. */
async function isFenced(vm: WanderingVm): Promise<void> {
  const resume = () => vm.primary.api.call("vmResume", {}, { vm: VM });
  await vm.order("the old primary to be fenced", vm.primary, resume, ({ relationship, disks }) => {
    return relationship?.state === "failed-over" && disks.every(({ uri }) => uri === null);
  });
}

async function reversed(vm: WanderingVm, plan: RoundPlan): Promise<RoundOutcome> {
  const { branch, guest, old, lostWrites } = await promote(vm, plan);
  if (plan.completed === "at once") await complete(vm);
  wake(vm, plan);
  await isFenced(vm);
  await old.die();
  await becomesItsReplica(vm, plan, branch, guest);
  return { lostWrites };
}

/** What the old primary holds is its own branch, all of it; the VM goes on, and its replication is reversed. */
async function becomesItsReplica(
  vm: WanderingVm,
  plan: RoundPlan,
  branch: Branch,
  guest: BranchGuest,
): Promise<void> {
  const former = vm.branch;
  const left = await vm.files(vm.primary);
  vm.faults.push(...former.judge("what the old primary has", left, former.ackedLength).faults);
  if (plan.completed !== "after the reversal") await complete(vm);
  await reverse(vm);
  if (plan.completed === "after the reversal") await complete(vm);
  await vm.waitFor("plain disks", async () => (await vm.replica.vm(VM)).promotion === null);
  vm.swap();
  vm.settleOn(branch, guest);
  await vm.replicated();
  const [first] = await vm.points();
  if (first === undefined) throw new Error("there is no branch point");
  vm.noteBranchOf(first.pointId, former);
  vm.same("the old primary's branch point", await vm.contentOfPoint(first.pointId), left);
}

function complete(vm: WanderingVm): Promise<unknown> {
  const commit = () => vm.replica.api.call("failoverCommit", {}, { vm: VM });
  return vm.order(
    "its completion",
    vm.replica,
    commit,
    ({ promotion }) => promotion?.fold !== null,
  );
}

function reverse(vm: WanderingVm): Promise<unknown> {
  const replicaUrl = vm.primary.process.peerUrl;
  const body = { replicaUrl, intervalMs: INTERVAL_MS };
  const call = () => vm.replica.api.call("vmReverse", body, { vm: VM });
  return vm.order("the reversal", vm.replica, call, ({ relationship }) => relationship !== null);
}

/** The guest is shut down; nothing of it may be missing at the replica. */
async function planned(vm: WanderingVm, plan: RoundPlan): Promise<RoundOutcome> {
  await vm.guest.shutDown();
  await handOver(vm);
  await vm.waitFor(
    "the replica to take over",
    async () => (await vm.replica.vm(VM)).role === "primary",
  );
  await goesOnThere(vm, plan);
  return NOTHING_LOST;
}

function handOver(vm: WanderingVm): Promise<unknown> {
  const call = () => vm.primary.api.call("plannedFailover", { force: true }, { vm: VM });
  return vm.order("a planned failover", vm.primary, call, ({ relationship }) =>
    ["handing-over", "failed-over"].includes(relationship?.state ?? ""),
  );
}

async function goesOnThere(vm: WanderingVm, plan: RoundPlan): Promise<void> {
  await isFenced(vm);
  const content = await vm.served(vm.replica);
  vm.faults.push(...vm.branch.judge("what was handed over", content, vm.branch.ackedLength).faults);
  vm.same("the old primary after a planned failover", await vm.files(vm.primary), content);
  const branch = vm.newBranch(content);
  const guest = await vm.boot(vm.replica, branch);
  await becomesItsReplica(vm, plan, branch, guest);
}

/** The replica is gone in the middle of it; who has the VM afterwards is for its answer to say. */
async function calledOff(vm: WanderingVm, plan: RoundPlan): Promise<RoundOutcome> {
  await vm.guest.shutDown();
  await handOver(vm);
  await vm.replica.down();
  // Refused where the replica has answered already.
  await vm.primary.api.call("failoverCancel", {}, { vm: VM }).catch(() => undefined);
  vm.replica.up();
  const state = await vm.waitFor("an answer", async () => {
    const { relationship } = await vm.primary.vm(VM);
    const isAnswered = ["replicating", "failed-over"].includes(relationship?.state ?? "");
    return isAnswered && relationship?.state;
  });
  const { role } = await vm.waitFor("the replica", () => vm.replica.vm(VM));
  if ((state === "failed-over") !== (role === "primary")) {
    vm.faults.push(`the primary is ${state ?? "gone"}, the other host is the VM's ${role}`);
  }
  if (role === "primary") await goesOnThere(vm, plan);
  else vm.settleOn(vm.branch, await vm.boot(vm.primary, vm.branch));
  return NOTHING_LOST;
}
