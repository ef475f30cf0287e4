/** What a person reads of a run. */
import type { Severity } from "./check.js";
import type { CheckResult, Verdict } from "./suite.js";

const HEADINGS: readonly [Severity, string][] = [
  ["violation", "Violations of the specification (MUST)"],
  ["deviation", "Deviations from what it recommends (SHOULD)"],
  ["note", "To know"],
];

const MARKS: Readonly<Record<Verdict, string>> = {
  passed: "ok",
  deviates: "ok, with deviations",
  violates: "VIOLATES",
  "not offered": "not offered",
  "not run": "not run",
  "broken check": "CHECK BROKEN",
};

export function lineOf({ name, verdict, reason }: CheckResult): string {
  const why = verdict === "not offered" && reason !== null ? `: needs ${reason}` : "";
  const since = verdict === "not run" && reason !== null ? `: ${reason}` : "";
  return `${name.padEnd(34)} ${MARKS[verdict]}${why}${since}`;
}

export function countOf(results: readonly CheckResult[], verdict: Verdict): number {
  return results.filter((result) => result.verdict === verdict).length;
}

export function summaryOf(results: readonly CheckResult[]): string {
  const kept = countOf(results, "passed") + countOf(results, "deviates");
  const parts = [
    `${kept} passed`,
    `${countOf(results, "deviates")} of them with deviations`,
    `${countOf(results, "violates")} violate the specification`,
    `${countOf(results, "not offered")} not offered`,
  ];
  const broken = countOf(results, "broken check");
  const notRun = countOf(results, "not run");
  if (notRun > 0) parts.push(`${notRun} not run, since the server was gone`);
  return [...parts, ...(broken > 0 ? [`${broken} checks broke`] : [])].join(", ");
}

export function reportOf(results: readonly CheckResult[]): string {
  const sections = HEADINGS.map(([severity, heading]) => sectionOf(results, severity, heading));
  const broken = results
    .filter(({ verdict }) => verdict === "broken check")
    .map(({ name, reason }) => `  ${name}: ${reason ?? ""}`);
  if (broken.length > 0) sections.push(["Checks that broke", ...broken].join("\n"));
  return [...sections.filter((section) => section !== ""), summaryOf(results)].join("\n\n");
}

function sectionOf(results: readonly CheckResult[], severity: Severity, heading: string): string {
  const lines = results.flatMap(({ name, findings }) =>
    findings
      .filter((finding) => finding.severity === severity)
      .map(({ text }) => `  ${name}: ${text}`),
  );
  return lines.length === 0 ? "" : [heading, ...lines].join("\n");
}
