/**
 * How a test starts Node for a program of ours: without the hooks that the test
 * runner puts into every child's environment. With them a command takes three times
 * as long to start, and every worker thread of a host has a loader's thread beside it.
 */
export const PLAIN_NODE: readonly [string, ...string[]] = [
  "/usr/bin/env",
  "-u",
  "NODE_OPTIONS",
  process.execPath,
];
