import type { TestFailover } from "../model/test-failover.js";

const HOUR_MS = 3_600_000;
const GIB = 2 ** 30;

/** For a warning of want of room: what tests hold, since when, and that they stay. */
export function describeTests(tests: readonly TestFailover[], vmIds: readonly string[]): string {
  const held = tests.filter(({ vmId }) => vmIds.includes(vmId)).map(describeOne);
  if (held.length === 0) return "";
  return `Open test failovers: ${held.join("; ")}. They are not ended for want of room unless the host is set to (\`tidemark host test-failovers --end-on-shortage on\`).`;
}

function describeOne({ exportId, point, test }: TestFailover): string {
  const hours = (test.ageMs / HOUR_MS).toFixed(1);
  const gib = (test.scratchBytes / GIB).toFixed(1);
  return `${exportId} holds recovery point ${point.sequence} for ${hours} h, with ${gib} GiB written`;
}
