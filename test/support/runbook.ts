/** A runbook's commands, run as they stand, and what it says that they print. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { run } from "./program.js";

export interface RunbookStep {
  readonly commands: string;
  readonly printed: string;
  /** As the page has it; null when it says nothing. */
  readonly promised: string | null;
}

const STEP = /^```sh\n([\s\S]*?)^```$(?:\n\n```text\n([\s\S]*?)^```$)?/gm;
const MARK = "@@ end of step";

/** `prelude`: what the page takes for granted, as shell text. Throws when a command fails. */
export async function followRunbook(name: string, prelude: string): Promise<RunbookStep[]> {
  const path = fileURLToPath(new URL(`../../docs/runbooks/${name}`, import.meta.url));
  const steps = [...(await readFile(path, "utf8")).matchAll(STEP)];
  const script = [prelude, ...steps.map(([, commands]) => `${commands}echo "${MARK}"`)].join("\n");
  const { exitCode, stdout, stderr } = await run("bash", ["-euo", "pipefail", "-c", script]);
  if (exitCode !== 0) throw new Error(`${name} ended with ${exitCode}: ${stderr}\n${stdout}`);
  const printed = stdout.split(`${MARK}\n`);
  return steps.map(([, commands = "", promised = null], index) => ({
    commands,
    printed: printed[index] ?? "",
    promised,
  }));
}

/** Without what differs from one run to the next. */
export function withoutParticulars(text: string): string {
  return (
    text
      // A command that is told to go on with names the host's directory as it was given.
      .replace(/tidemark --dir \S+ /g, "tidemark ")
      .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "ID")
      .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ/g, "TIME")
      .replace(/socket=\S+/g, "socket=PATH")
      .replace(/\d+ (h|min) \d+ (min|s)|[\d.]+ m?s\b/g, "DURATION")
      .replace(/[\d.]+ ([KMGT]i)?B\b/g, "SIZE")
      .replace(/\bpoint \d+/g, "point NUMBER")
      .replace(/ +/g, " ")
  );
}
