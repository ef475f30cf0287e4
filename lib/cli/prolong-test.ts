import type { Command } from "commander";
import type { NewEnd } from "../model/test-failover.js";
import { clientOf, globalOptions } from "./context.js";
import { printJson } from "./output.js";
import { openTestLines } from "./test-failover-lines.js";
import { chooseTest, type TestFailoverOptions } from "./test-failover-options.js";

/** Of the open tests with these ids the one that is meant. */
export async function prolongTest(
  command: Command,
  ids: readonly string[],
  options: TestFailoverOptions,
  end: NewEnd,
): Promise<void> {
  const id = chooseTest(ids, options);
  const prolonged = await clientOf(command).call("testFailoverProlong", end, { export: id });
  if (globalOptions(command).json) return printJson(prolonged);
  process.stdout.write(`${prolonged.flatMap(openTestLines).join("\n")}\n`);
}
