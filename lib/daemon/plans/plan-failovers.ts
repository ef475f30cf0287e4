import { TidemarkError } from "../../model/errors.js";
import {
  type ChosenPoint,
  type ChosenPoints,
  type PlanVmOutcome,
  stepErrorOf,
} from "../../model/plan-run.js";
import type { TestFailover, TestFailoverTerms } from "../../model/test-failover.js";
import type { TestFailovers } from "../../replica/test-failovers.js";
import type { GroupFailovers } from "../group-failovers.js";
import type { GroupParts } from "../group-members.js";

export interface PlanFailoverParts extends GroupParts {
  readonly groupFailovers: GroupFailovers;
  readonly testFailovers: TestFailovers;
  /** Of tests that plans open. */
  readonly testTerms: () => TestFailoverTerms;
  /** Each test that was opened. */
  readonly onTest: (vmId: string) => Promise<void>;
}

type Disks = PlanVmOutcome["disks"];

/** All of a cut or none; of VMs that were named, each by itself. */
export async function openPlanTests(
  parts: PlanFailoverParts,
  { cut, vms }: ChosenPoints,
): Promise<readonly PlanVmOutcome[]> {
  const { testFailovers, testTerms, onTest } = parts;
  if (cut !== null) {
    const tests = await testFailovers.openGroup(vms, cut, testTerms(), false);
    for (const { vmId } of tests) await onTest(vmId);
    return vms.map((vm) =>
      testedVm(
        vm,
        tests.find(({ vmId }) => vmId === vm.vmId),
      ),
    );
  }
  return Promise.all(
    vms.map((vm) =>
      outcomeOf(vm, async () => {
        const test = await testFailovers.open(vm, testTerms(), false);
        await onTest(vm.vmId);
        return testedVm(vm, test);
      }),
    ),
  );
}

/** May be repeated: a VM that runs from its point already stays as it is. */
export async function failPlanVmsOver(
  parts: PlanFailoverParts,
  { cut, vms }: ChosenPoints,
): Promise<readonly PlanVmOutcome[]> {
  if (cut === null) {
    const outcomes: PlanVmOutcome[] = [];
    for (const vm of vms) {
      outcomes.push(
        await outcomeOf(vm, async () => {
          await failOver(parts, vm);
          return { ...named(vm), disks: await servedDisks(parts, vm.vmId) };
        }),
      );
    }
    return outcomes;
  }
  const { groupId, cutNumber } = cut;
  const { members } = await parts.groupFailovers.failOver(groupId, { cutNumber }, true);
  return Promise.all(
    members.map((member) =>
      outcomeOf(member, async () => {
        if (member.error !== null) throw member.error;
        return { ...named(member), disks: await servedDisks(parts, member.vmId) };
      }),
    ),
  );
}

async function failOver(
  { replicaStore, failovers }: PlanFailoverParts,
  { vmId, name, pointId }: ChosenPoint,
): Promise<void> {
  const summary = (await replicaStore.listVms()).find((each) => each.vmId === vmId);
  const promotion = summary?.promotion ?? null;
  if (promotion === null) return failovers.failOver(vmId, pointId);
  if (promotion.forkPointId === pointId) return;
  throw new TidemarkError(
    "CONFLICT",
    `Cannot fail ${name} over: because it was failed over to another point already.`,
    { hint: `Cancel that first: \`tidemark vm cancel-failover ${name}\`.` },
  );
}

async function servedDisks({ vms }: PlanFailoverParts, vmId: string): Promise<Disks> {
  const { definition, server } = await vms.served(vmId);
  return definition.disks.map(({ name }) => ({ name, uri: server.uriOf(name) }));
}

function testedVm(vm: ChosenPoint, test: TestFailover | undefined): PlanVmOutcome {
  const disks = (test?.disks ?? []).map(({ name, uri }) => ({ name, uri }));
  const testId = test?.test.group?.testId ?? test?.exportId ?? null;
  return { ...named(vm), testId, disks };
}

function named({ vmId, name }: Pick<ChosenPoint, "vmId" | "name">): PlanVmOutcome {
  return { vmId, name, testId: null, disks: [], error: null };
}

async function outcomeOf(
  vm: Pick<ChosenPoint, "vmId" | "name">,
  work: () => Promise<PlanVmOutcome>,
): Promise<PlanVmOutcome> {
  return work().catch((thrown: unknown) => ({ ...named(vm), error: stepErrorOf(thrown) }));
}
