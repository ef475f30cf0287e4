import { Command } from "commander";

/** Commands below one name. */
export interface CommandGroup {
  readonly description: string;
  readonly commands: Readonly<Record<string, CommandGroup | CommandLoader>>;
}

/** Most of what a command costs is loading its code: only the one that is called is loaded. */
export type CommandLoader = () => Promise<Command>;

/** Adds those that `isWanted`; what is below a group of them is added when that group is called. */
export async function addCommands(
  parent: Command,
  group: CommandGroup,
  isWanted: (name: string) => boolean = () => true,
): Promise<void> {
  for (const [name, entry] of Object.entries(group.commands)) {
    if (!isWanted(name)) continue;
    const command =
      typeof entry === "function"
        ? await entry()
        : new Command(name).description(entry.description);
    parent.addCommand(command.copyInheritedSettings(parent));
    command.showHelpAfterError(`(${wordsOf(command)} --help says how it is used)`);
  }
  parent.hook("preSubcommand", async (_parent, called) => {
    const below = group.commands[called.name()];
    if (below === undefined || typeof below === "function") return;
    const next = parent.args[1] ?? "";
    const isCalled = (name: string) => name === next || !Object.hasOwn(below.commands, next);
    await addCommands(called, below, isCalled);
  });
}

function wordsOf(command: Command): string {
  const { parent } = command;
  return parent === null ? command.name() : `${wordsOf(parent)} ${command.name()}`;
}

/** All of them at once, for who looks at them and calls none. */
export async function addAllCommands(parent: Command, group: CommandGroup): Promise<void> {
  await addCommands(parent, group);
  for (const command of parent.commands) {
    const below = group.commands[command.name()];
    if (below !== undefined && typeof below !== "function") await addAllCommands(command, below);
  }
}
