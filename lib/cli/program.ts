import { Command } from "commander";
import { addCommands, type CommandGroup } from "./command-group.js";
import { commandTable } from "./command-table.js";
import { defaultHostDirectory } from "./context.js";
import type { LocalCommands } from "./local-commands.js";

/** The `tidemark` command line. */
export async function buildProgram(
  local: LocalCommands,
  version: string,
  add: (program: Command, table: CommandGroup) => Promise<void> = addCommands,
): Promise<Command> {
  const table = commandTable(local);
  const program = new Command("tidemark")
    .description(table.description)
    .version(version)
    .option("--dir <dir>", "the host's directory", defaultHostDirectory())
    .option("--json", "print data as JSON")
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError("(tidemark --help lists the commands)")
    .helpCommand(false);
  await add(program, table);
  return program.addCommand(helpCommand(program));
}

/** `help vm status` is `vm status --help`, which loads what it shows. */
function helpCommand(program: Command): Command {
  return new Command("help")
    .description("say how a command is used")
    .argument("[command...]", "the command's words")
    .action(async (words: string[]) => {
      await program.parseAsync([...words, "--help"], { from: "user" });
    });
}
