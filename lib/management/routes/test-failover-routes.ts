import * as tests from "../test-failover-schemas.js";
import { nothing, route } from "./route.js";

export const TEST_FAILOVER_ROUTES = {
  testFailover: route(
    "POST",
    "/vms/:vm/test-failovers",
    tests.testFailoverRequest,
    tests.testFailover,
    "Open a recovery point for a test, for a time",
  ),
  testFailoverList: route(
    "GET",
    "/vms/:vm/test-failovers",
    nothing,
    tests.testFailoverList,
    "Its open test failovers, and how the last one ended",
  ),
  testFailoverProlong: route(
    "POST",
    "/test-failovers/:export/end",
    tests.testFailoverProlongation,
    tests.testFailover.array(),
    "Put the end of a test failover, or of a group's, to another time",
  ),
  groupTestFailover: route(
    "POST",
    "/groups/:group/test-failovers",
    tests.groupTestFailoverRequest,
    tests.groupTestFailover,
    "Open a group's recovery points of one cut for a test: all of them or none",
  ),
  groupTestFailoverList: route(
    "GET",
    "/groups/:group/test-failovers",
    nothing,
    tests.groupTestFailover.array(),
    "A group's open test failovers",
  ),
  testFailoverSettings: route(
    "POST",
    "/host/test-failovers",
    tests.testFailoverSettingsRequest,
    tests.testFailoverSettings,
    "What holds for test failovers that say nothing else",
  ),
} as const;
