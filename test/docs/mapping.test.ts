/** Every command that docs/hyper-v-mapping.md names exists, with the options that it names. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import t from "tap";
import { addAllCommands } from "#lib/cli/command-group.js";
import type { LocalCommands } from "#lib/cli/local-commands.js";
import { buildProgram } from "#lib/cli/program.js";

const page = await readFile(
  fileURLToPath(new URL("../../docs/hyper-v-mapping.md", import.meta.url)),
  "utf8",
);
const program = await buildProgram({} as LocalCommands, "0.0.0", addAllCommands);

/** What is wrong with a command line as the page has it; null when nothing is. */
function fault(line: string): string | null {
  const words = line.split(/\s+/).slice(1);
  let command: Command = program;
  while (words[0] !== undefined && /^[a-z][a-z-]*$/.test(words[0])) {
    const next = command.commands.find((one) => one.name() === words[0]);
    if (next === undefined) break;
    command = next;
    words.shift();
  }
  if (command === program) return "no such command";
  if (command.commands.length > 0) return `${command.name()} needs a command below it`;
  const known = new Set([...command.options, ...program.options].map(({ long }) => long));
  const unknown = words.filter((word) => word.startsWith("--") && !known.has(word));
  if (unknown.length > 0) return `no option ${unknown.join(", ")}`;
  const isValue = (at: number) => words[at - 1]?.startsWith("--") === true;
  const plain = words.filter((word, at) => !word.startsWith("--") && !isValue(at));
  const { length: most } = command.registeredArguments;
  const takesMany = command.registeredArguments.some(({ variadic }) => variadic);
  return plain.length > most && !takesMany ? `too many arguments: ${plain.join(" ")}` : null;
}

const named = [...page.matchAll(/`(tidemark [^`]+)`/g)].map(([, line]) => line ?? "");

void t.test("every command of the page exists, with its options", async (t) => {
  t.ok(named.length > 30, `${named.length} commands`);
  for (const line of named) t.equal(fault(line), null, line);
});

void t.test("the check finds what does not exist", async (t) => {
  t.equal(fault("tidemark nonsense"), "no such command");
  t.equal(fault("tidemark vm"), "vm needs a command below it");
  t.equal(fault("tidemark vm enable VM --nonsense"), "no option --nonsense");
  t.match(fault("tidemark vm status VM OTHER"), /too many arguments/);
  t.equal(fault("tidemark vm enable VM --disk PATH --replica URL"), null);
});

void t.test("every feature of the checklist has its row", async (t) => {
  const rows = [...page.matchAll(/^\| (\d+) \|/gm)].map(([, number]) => Number(number));
  t.same(
    rows,
    Array.from({ length: 51 }, (_, index) => index + 1),
  );
});
