import { setTimeout as sleep } from "node:timers/promises";
import { Command } from "commander";
import type { ApiClient } from "../../management/api-client.js";
import type { PlanRunBody } from "../../management/plan-run-schemas.js";
import { TidemarkError } from "../../model/errors.js";
import { clientOf, globalOptions, tidemarkHere } from "../context.js";
import { printJson } from "../output.js";
import { planStepLine, runSummary, stepStateLine } from "../plan-lines.js";

const POLL_MS = 200;

interface Options {
  readonly test?: true;
  readonly real?: true;
  readonly resume?: true;
  readonly yes?: true;
  readonly wait: boolean;
}

/** Exit status 1 when it was awaited and a step of it failed. */
export function planRunCommand(): Command {
  return new Command("run")
    .description("do a recovery plan's steps, for a test or in earnest (on the replica)")
    .argument("<plan>", "its name")
    .option("--test", "test failovers; replication goes on")
    .option("--real", "failovers: the VMs run here from then on")
    .option("--resume", "go on with the last run, without repeating what is done")
    .option("--yes", "with --real: do it; without this, say what would be done")
    .option("--no-wait", "return when it has begun; it goes on by itself in any case")
    .action(async (name: string, options: Options, command: Command) => {
      const client = clientOf(command);
      const request = requestOf(options);
      const { json } = globalOptions(command);
      const kind = "kind" in request ? request.kind : null;
      if (kind === "real" && options.yes !== true) return printIntent(client, command, name);
      const begun = await client.call("planRun", request, { plan: name });
      const run = options.wait ? await ended(client, begun, json) : begun;
      if (options.wait && run.state !== "completed") process.exitCode = 1;
      if (json) return printJson(run);
      process.stdout.write(
        `Plan ${name}: ${runSummary(run)}. Its report: ${tidemarkHere(command)} plan report ${name}\n`,
      );
    });
}

function requestOf({ test, real, resume }: Options) {
  const given = [test, real, resume].filter((one) => one !== undefined);
  if (given.length !== 1) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "Cannot run the plan: because it takes one of --test, --real and --resume.",
    );
  }
  if (resume === true) return { resumes: true as const };
  return { kind: test === true ? ("test" as const) : ("real" as const) };
}

async function printIntent(client: ApiClient, command: Command, name: string): Promise<void> {
  const { steps } = await client.call("planShow", {}, { plan: name });
  const lines = steps.map((step, index) => `  ${index + 1}. ${planStepLine(step)}`);
  process.stdout.write(
    `This fails VMs over to this host; their primaries are not asked:\n${lines.join("\n")}\nTo do it: ${tidemarkHere(command)} plan run ${name} --real --yes\n`,
  );
}

/** Says of each step how it ended; of one that ended before a resumption, nothing. */
async function ended(client: ApiClient, begun: PlanRunBody, isQuiet: boolean) {
  const said = new Set(begun.steps.filter(isOver).map(({ name }) => name));
  const parameters = { plan: begun.plan.name, run: begun.runId };
  for (;;) {
    const run = await client.call("planReport", {}, parameters);
    for (const step of run.steps) {
      if (said.has(step.name) || !isOver(step)) continue;
      said.add(step.name);
      if (!isQuiet) process.stdout.write(`${stepStateLine(step)}\n`);
    }
    if (run.state !== "running") return run;
    await sleep(POLL_MS);
  }
}

function isOver({ state }: { readonly state: string }): boolean {
  return state !== "waiting" && state !== "running";
}
