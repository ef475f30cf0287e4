import type { Command } from "commander";
import type { VmOutcomes } from "../management/bulk-schemas.js";
import { TidemarkError } from "../model/errors.js";
import type { RelationshipState } from "../model/relationship.js";
import { globalOptions } from "./context.js";
import { describeError, printJson } from "./output.js";
import { parsePeerUrl } from "./parse-peer-url.js";

export interface SelectorOptions {
  readonly all?: true;
  readonly replica?: string;
  readonly state?: RelationshipState;
}

/** For commands that take many VMs at once. */
export function addSelector(command: Command): Command {
  return command
    .argument("[vm...]", "names, ids, VM@TARGET, or patterns with * and ?")
    .option("--all", "all VMs that this host is the primary of")
    .option("--replica <url>", "those that replicate to this host")
    .option("--state <state>", "those in this state");
}

export function selectorOf(names: readonly string[], { all, replica, state }: SelectorOptions) {
  if (names.length === 0 && [all, replica, state].every((one) => one === undefined)) {
    throw new TidemarkError("INVALID_ARGUMENT", "Cannot tell which VMs: because none is named.", {
      hint: "Name them, or use --all, --replica or --state.",
    });
  }
  return {
    ...(names.length === 0 ? {} : { names: [...names] }),
    ...(all === undefined ? {} : { all }),
    ...(replica === undefined ? {} : { replicaUrl: parsePeerUrl(replica) }),
    ...(state === undefined ? {} : { state }),
  };
}

/** "Suspended vm1."; those that failed with their reason, on standard error. */
export function printOutcomes(command: Command, outcomes: VmOutcomes, done: string): void {
  if (outcomes.some(({ error }) => error !== null)) process.exitCode = 1;
  if (globalOptions(command).json) return printJson(outcomes);
  if (outcomes.length === 0) process.stdout.write("No VM fits.\n");
  for (const { name, error } of outcomes) {
    if (error === null) process.stdout.write(`${done} ${name}.\n`);
    else {
      const { message, hint, code } = error;
      const text = describeError({ message, hint: hint ?? undefined });
      process.stderr.write(`tidemark: ${name}: ${text} [${code}]\n`);
    }
  }
}
