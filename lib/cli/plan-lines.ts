/** A recovery plan, its runs and their reports, as text. */
import type { PlanRunBody, PlanStepReportBody } from "../management/plan-run-schemas.js";
import type { RecoveryPlanBody } from "../management/plan-schemas.js";
import { describeError, formatDuration, formatTime, shellWord, tableLines } from "./output.js";

type Step = RecoveryPlanBody["steps"][number];

/** "database: fail over db from its newest point" */
export function planStepLine(step: Step): string {
  const tolerated = step.onFailure === "continue" ? "; goes on when it fails" : "";
  return `${step.name}: ${whatOf(step)}${tolerated}`;
}

function whatOf({ failover, script, delayMs }: Step): string {
  if (failover !== undefined) return `fail over ${vmsOf(failover)} ${pointOf(failover)}`;
  if (script !== undefined) {
    const words = [script.path, ...script.args].map(shellWord).join(" ");
    return `run ${words}, for at most ${formatDuration(script.timeoutMs)}`;
  }
  if (delayMs !== undefined) return `wait ${formatDuration(delayMs)}`;
  return "end the test, in a test run";
}

function vmsOf({ vms = [], group }: NonNullable<Step["failover"]>): string {
  return group === undefined ? vms.join(", ") : `group ${group}`;
}

function pointOf({ group, point }: NonNullable<Step["failover"]>): string {
  const what = group === undefined ? "point" : "complete cut";
  if (point?.cutNumber !== undefined) return `from cut ${point.cutNumber}`;
  const until = point?.atOrBefore === undefined ? "" : ` at or before ${point.atOrBefore}`;
  return `from the newest ${what}${until}`;
}

/** "database: done (120 ms)"; the reason when it failed. */
export function stepStateLine({ name, state, startedAtMs, endedAtMs, error }: PlanStepReportBody) {
  const tookMs = startedAtMs === null || endedAtMs === null ? null : endedAtMs - startedAtMs;
  const took = tookMs === null || state === "skipped" ? "" : ` (${formatDuration(tookMs)})`;
  const why =
    error === null ? "" : `. ${describeError({ ...error, hint: error.hint ?? undefined })}`;
  return `${name}: ${state}${took}${why}`;
}

/** In which step it is, or was when it ended. */
export function runSummary({ kind, state, steps }: PlanRunBody): string {
  const at = steps.find((step) => ["running", "interrupted", "failed"].includes(step.state));
  const next = steps.find((step) => step.state === "waiting");
  if (state === "completed" || state === "completed with failures") return `${kind} run ${state}`;
  const where = at ?? next;
  return `${kind} run ${state}${where === undefined ? "" : ` in step ${where.name}`}`;
}

export function reportLines(run: PlanRunBody): string[] {
  const { plan, runId, startedAtMs, endedAtMs, resumedAtMs, steps } = run;
  const end = endedAtMs === null ? "" : `, ended ${formatTime(endedAtMs)}`;
  const resumed = resumedAtMs.map((timeMs) => `, resumed ${formatTime(timeMs)}`).join("");
  const stepLines = steps.flatMap((step) => [`  ${stepStateLine(step)}`, ...scriptLines(step)]);
  return [
    `Plan ${plan.name}: ${runSummary(run)}`,
    `Run ${runId}: begun ${formatTime(startedAtMs)}${resumed}${end}`,
    ...stepLines,
    ...vmLines(steps),
  ];
}

function scriptLines({ script }: PlanStepReportBody): string[] {
  if (script === null || script.output === "") return [];
  const cut = script.isOutputCut ? ["    ... (only the end is kept)"] : [];
  return [
    ...cut,
    ...script.output
      .trimEnd()
      .split("\n")
      .map((line) => `    | ${line}`),
  ];
}

function vmLines(steps: readonly PlanStepReportBody[]): string[] {
  const rows = steps.flatMap(({ chosen, vms }) =>
    (chosen?.vms ?? []).flatMap(({ vmId, name, pointSequence, takenAtMs, loss }) => {
      const { disks = [], error = null } = vms.find((vm) => vm.vmId === vmId) ?? {};
      const lost = [formatDuration(loss.givenUpMs), formatDuration(loss.atMostMs)];
      const row = [name, pointSequence, formatTime(takenAtMs), ...lost];
      if (disks.length === 0) return [[...row, "-", error === null ? "-" : "failed"]];
      return disks.map((disk) => [...row, disk.name, disk.uri]);
    }),
  );
  if (rows.length === 0) return [];
  const head = ["VM", "POINT", "TAKEN", "GIVEN UP", "LOST AT MOST", "DISK", "REACHED AT"];
  return ["", ...tableLines(head, rows)];
}
