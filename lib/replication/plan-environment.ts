import type { PlanRun } from "../model/plan-run.js";

/** What a plan's script is told. docs/recovery-plans.md has it for who writes scripts. */
export function planEnvironment(
  { plan, kind, runId, steps }: PlanRun,
  stepName: string,
): Record<string, string> {
  const vms = steps.flatMap((step) => step.vms).filter(({ error }) => error === null);
  const lines = vms.flatMap(({ name, disks }) =>
    disks.map((disk) => `${name}\t${disk.name}\t${disk.uri}`),
  );
  return {
    TIDEMARK_PLAN: plan.name,
    TIDEMARK_RUN_KIND: kind,
    TIDEMARK_RUN_ID: runId,
    TIDEMARK_STEP: stepName,
    TIDEMARK_VMS: [...new Set(vms.map(({ name }) => name))].join(" "),
    TIDEMARK_DISKS: lines.join("\n"),
  };
}
