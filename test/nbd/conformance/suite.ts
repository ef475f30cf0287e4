/** All checks against one target. */
import { type Check, CheckContext, type Finding, type Settings } from "./check.js";
import type { Target } from "./target.js";

export type Verdict =
  | "passed"
  | "deviates"
  | "violates"
  | "not offered"
  | "not run"
  | "broken check";

export interface CheckResult {
  readonly name: string;
  readonly about: string;
  readonly verdict: Verdict;
  /** Why not, for what is not offered. */
  readonly reason: string | null;
  readonly findings: readonly Finding[];
  readonly durationMs: number;
}

export async function runChecks(
  target: Target,
  checks: readonly Check[],
  settings: Settings,
  tell: (result: CheckResult) => void = () => undefined,
): Promise<CheckResult[]> {
  const results: CheckResult[] = [];
  let goneAfter: string | null = null;
  for (const check of checks) {
    const result =
      goneAfter === null ? await runCheck(target, check, settings) : notRun(check, goneAfter);
    if (goneAfter === null && result.verdict === "violates" && !(await isThere(target))) {
      goneAfter = check.name;
    }
    results.push(result);
    tell(result);
  }
  return results;
}

/** A server that crashed serves nobody: what comes after says nothing about it. */
async function isThere(target: Target): Promise<boolean> {
  const stream = await target.stream().catch(() => null);
  stream?.destroy();
  return stream !== null;
}

function notRun({ name, about }: Check, goneAfter: string): CheckResult {
  const reason = `the server is gone since ${goneAfter}`;
  return { name, about, verdict: "not run", reason, findings: [], durationMs: 0 };
}

async function runCheck(target: Target, check: Check, settings: Settings): Promise<CheckResult> {
  const { name, about } = check;
  const startedMs = performance.now();
  const context = new CheckContext(target, settings);
  const ended = (verdict: Verdict, reason: string | null): CheckResult => {
    const durationMs = Math.round(performance.now() - startedMs);
    return { name, about, verdict, reason, findings: context.findings, durationMs };
  };
  try {
    const { notOffered } = await context.run(check);
    const verdict = verdictOf(context.findings);
    return ended(notOffered !== null && verdict === "passed" ? "not offered" : verdict, notOffered);
  } catch (thrown) {
    return ended("broken check", (thrown as Error).stack ?? String(thrown));
  }
}

function verdictOf(findings: readonly Finding[]): Verdict {
  if (findings.some(({ severity }) => severity === "violation")) return "violates";
  return findings.some(({ severity }) => severity === "deviation") ? "deviates" : "passed";
}
