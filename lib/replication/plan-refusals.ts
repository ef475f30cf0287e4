/** Why an order about a recovery plan is refused. */
import { TidemarkError } from "../model/errors.js";
import type { PlanRun } from "../model/plan-run.js";

export function noSuchPlan(name: string): TidemarkError {
  return new TidemarkError("NOT_FOUND", `Cannot find recovery plan ${name}.`, {
    hint: "`tidemark plan list` shows the plans of this host.",
  });
}

export function noSuchRun(name: string, runId: string | null): TidemarkError {
  const what = runId === null ? `a run of recovery plan ${name}` : `run ${runId} of plan ${name}`;
  return new TidemarkError("NOT_FOUND", `Cannot find ${what}: because there was none.`, {
    hint: `\`tidemark plan runs ${name}\` lists its runs.`,
  });
}

export function isThereAlready(name: string): TidemarkError {
  return new TidemarkError(
    "ALREADY_EXISTS",
    `Cannot add recovery plan ${name}: because one of that name is there already.`,
    { hint: "Replace it with --replace, or give the new one another name." },
  );
}

export function isRunning(name: string, what: string): TidemarkError {
  return new TidemarkError("IN_USE", `Cannot ${what} recovery plan ${name}: because it runs.`, {
    retryable: false,
    hint: `\`tidemark plan report ${name}\` shows how far it is; \`tidemark plan stop ${name}\` ends it.`,
  });
}

export function notRunning(name: string): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    `Cannot stop recovery plan ${name}: because it does not run.`,
    {
      hint: `\`tidemark plan report ${name}\` shows its last run.`,
    },
  );
}

export function testsAreOpen(name: string): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    `Cannot test recovery plan ${name}: because test failovers of an earlier test of it are open.`,
    { hint: `End them first: \`tidemark plan end-test ${name}\`.` },
  );
}

export function nothingToResume(name: string, last: PlanRun | undefined): TidemarkError {
  const why = last === undefined ? "it was never run" : `its last run is ${last.state}`;
  return new TidemarkError("CONFLICT", `Cannot resume recovery plan ${name}: because ${why}.`, {
    hint: `Begin a new run with \`tidemark plan run ${name}\` and --test or --real.`,
  });
}

/** The code stays that of the reason. */
export function stepNotReady(
  stepName: string,
  { code, message, hint }: TidemarkError,
): TidemarkError {
  return new TidemarkError(
    code,
    `Cannot run the plan: because its step ${stepName} cannot be done. ${message}`,
    hint === undefined ? {} : { hint },
  );
}
