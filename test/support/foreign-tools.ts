/** Programs that nobody here wrote, as clients or oracles. */
import type { Test } from "tap";
import { missingTool, run } from "./program.js";

/** For a test's `skip`: why it cannot run, or false. */
export async function skipWithout(...tools: readonly string[]): Promise<string | false> {
  const name = await missingTool(...tools);
  return name === null ? false : `${name} is not installed`;
}

/** What it printed; the test fails, with what it said, when it failed. */
export async function succeeds(
  t: Test,
  program: string,
  ...args: readonly string[]
): Promise<string> {
  const { exitCode, stdout, stderr } = await run(program, args);
  t.equal(exitCode, 0, `${program} ${args.join(" ")}\n${stdout}${stderr}`);
  return stdout;
}
