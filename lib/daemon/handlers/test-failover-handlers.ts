import type { RouteBody } from "../../management/routes.js";
import type { TEST_FAILOVER_ROUTES } from "../../management/routes/test-failover-routes.js";
import type {
  GroupTestFailoverBody,
  TestFailoverBody,
} from "../../management/test-failover-schemas.js";
import { TidemarkError } from "../../model/errors.js";
import type { TestFailover, TestFailoverTerms } from "../../model/test-failover.js";
import { chooseGroupCut } from "../choose-group-cut.js";
import type { HostParts } from "../host-parts.js";
import { exportBody } from "./describe-vm.js";
import { findReplica } from "./find-vm.js";
import { choosePoint } from "./open-point.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function testFailoverHandlers(parts: HostParts): TopicHandlers<typeof TEST_FAILOVER_ROUTES> {
  const { testFailovers, statistics, settings } = parts;
  return {
    testFailover: async ({ pointId, check, ...asked }, { vm }) => {
      const chosen = await choosePoint(parts, vm, pointId);
      const opened = await testFailovers.open(chosen, termsOf(parts, asked), check);
      await statistics.noteTestFailover(chosen.vmId);
      return testBody(opened);
    },
    testFailoverList: async (_body, { vm }) => {
      const { vmId } = await findReplica(parts, vm);
      const open = (await testFailovers.list()).filter((test) => test.vmId === vmId);
      const { lastTestFailover: last } = await statistics.statistics(vmId);
      return { open: open.map(testBody), last };
    },
    testFailoverProlong: async (end, parameters) => {
      if ("untilMs" in end && end.untilMs !== null && end.untilMs <= Date.now()) throw isPast();
      return (await testFailovers.prolong(parameters.export ?? "", end)).map(testBody);
    },
    groupTestFailover: (asked, { group }) => openGroup(parts, group ?? "", asked),
    groupTestFailoverList: async (_body, { group }) =>
      groupTests(await testFailovers.list()).filter(
        ({ name, groupId }) => name === group || groupId === group,
      ),
    testFailoverSettings: async (wanted) => {
      const given = Object.entries(wanted).filter(([, value]) => value !== undefined);
      const merged = { ...settings.values.testFailovers, ...Object.fromEntries(given) };
      await settings.update({ testFailovers: merged });
      return merged;
    },
  };
}

async function openGroup(
  parts: HostParts,
  group: string,
  { cutNumber, check, ...asked }: RouteBody<"groupTestFailover">,
): Promise<GroupTestFailoverBody> {
  const { testFailovers, statistics, replicaStore } = parts;
  const { requests, identity } = await chooseGroupCut(replicaStore, group, { cutNumber });
  const tests = await testFailovers.openGroup(requests, identity, termsOf(parts, asked), check);
  for (const { vmId } of tests) await statistics.noteTestFailover(vmId);
  const [opened] = groupTests(tests);
  if (opened !== undefined) return opened;
  throw new TidemarkError(
    "CANCELLED",
    "Cannot show the group's test failover: because it has ended already.",
  );
}

/** What was asked for; the host's settings for the rest. */
function termsOf(
  { settings }: HostParts,
  asked: { [Key in keyof TestFailoverTerms]?: TestFailoverTerms[Key] | undefined },
): TestFailoverTerms {
  const { forMs, scratchLimitBytes } = settings.values.testFailovers;
  return {
    forMs: asked.forMs === undefined ? forMs : asked.forMs,
    scratchLimitBytes:
      asked.scratchLimitBytes === undefined ? scratchLimitBytes : asked.scratchLimitBytes,
  };
}

function testBody(test: TestFailover): TestFailoverBody {
  return { ...exportBody(test), test: test.test };
}

function groupTests(tests: readonly TestFailover[]): GroupTestFailoverBody[] {
  const groups = new Map<string, GroupTestFailoverBody>();
  for (const test of tests) {
    const { group } = test.test;
    if (group === null) continue;
    const known = groups.get(group.testId)?.tests ?? [];
    groups.set(group.testId, { ...group, tests: [...known, testBody(test)] });
  }
  return [...groups.values()];
}

function isPast(): TidemarkError {
  return new TidemarkError(
    "INVALID_ARGUMENT",
    "Cannot put the end of a test failover to that time: because it is past.",
    { hint: "End it with `tidemark vm close ID`." },
  );
}
