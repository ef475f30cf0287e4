import type { Command } from "commander";
import type { GroupOrderReportBody } from "../management/group-failover-schemas.js";
import { describeError } from "./output.js";

type Member = GroupOrderReportBody["members"][number];

/** Exit status 1 when a VM's outcome is a failure; each one's reason on standard error. */
export function reportFailedMembers({ members }: GroupOrderReportBody): void {
  for (const { name, error } of members) {
    if (error === null) continue;
    process.exitCode = 1;
    const { message, hint, code } = error;
    const text = describeError({ message, hint: hint ?? undefined });
    process.stderr.write(`tidemark: ${name}: ${text} [${code}]\n`);
  }
}

export function succeeded({ members }: GroupOrderReportBody): readonly Member[] {
  return members.filter(({ outcome }) => outcome !== "failed");
}

/** What is said when some failed: the order is to be given again. */
export function againLine(command: Command, { members }: GroupOrderReportBody): string {
  if (members.every(({ outcome }) => outcome !== "failed")) return "";
  return `Give \`tidemark group ${command.name()}\` again when that is mended: what is done stays as it is.\n`;
}
