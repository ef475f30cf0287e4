import type { Command } from "commander";
import t from "tap";
import { addAllCommands, type CommandGroup } from "#lib/cli/command-group.js";
import { commandTable } from "#lib/cli/command-table.js";
import type { LocalCommands } from "#lib/cli/local-commands.js";
import { buildProgram } from "#lib/cli/program.js";

const local = {} as LocalCommands;

/** The words of every command of the table. */
function pathsBelow(group: CommandGroup, above: readonly string[] = []): string[][] {
  return Object.entries(group.commands).flatMap(([name, entry]) => {
    const words = [...above, name];
    return typeof entry === "function" ? [words] : [words, ...pathsBelow(entry, words)];
  });
}

async function printed(...words: readonly string[]): Promise<string> {
  let text = "";
  const write = (part: string) => (text += part);
  const program = await buildProgram(local, "0.0.0");
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({ writeOut: write, writeErr: write });
  }
  await program.parseAsync(words, { from: "user" }).catch(() => undefined);
  return text;
}

void t.test("every command of the table goes by its name, and explains itself", async (t) => {
  const program = await buildProgram(local, "0.0.0", addAllCommands);
  for (const words of pathsBelow(commandTable(local))) {
    let command: Command | undefined = program;
    for (const word of words) command = command?.commands.find((one) => one.name() === word);
    const help = command?.helpInformation() ?? "";
    t.match(help, new RegExp(`^Usage: tidemark ${words.join(" ")} [^]*\\n\\n[^\\n]+\\n`));
    t.match(help, "Global Options:");
  }
});

void t.test("only what is called is loaded; help has all of a group", async (t) => {
  t.match(await printed("vm", "--help"), /status \[vm\][^]*delete-replica/);
  t.match(await printed("help", "vm"), /status \[vm\][^]*delete-replica/);
  t.match(await printed("vm", "status", "--help"), /Usage: tidemark vm status[^]*--json/);
  t.match(await printed("help", "vm", "disk", "add"), /Usage: tidemark vm disk add/);
  t.match(await printed("vm", "disk"), /add [^]*exclude/);
  t.match(await printed("vm", "statsu"), /unknown command 'statsu'[^]*Did you mean status/);
  t.match(await printed("vm", "constructor"), /unknown command 'constructor'/);
});
