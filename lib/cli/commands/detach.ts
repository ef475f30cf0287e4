import { Command } from "commander";
import { globalOptions } from "../context.js";
import type { LocalCommands } from "../local-commands.js";
import { printJson } from "../output.js";

export function detachCommand(local: LocalCommands): Command {
  return new Command("detach")
    .description("take away a block device that `tidemark attach` gave")
    .argument("<device|disk>", "/dev/nbdN, /dev/loopN, the disk's path or its id")
    .option("--force", "also when nobody serves it any more: what was not written is lost")
    .action(async (name: string, options: { readonly force?: boolean }, command: Command) => {
      const state = await local.detach({ name, force: options.force ?? false });
      if (globalOptions(command).json) printJson(state);
      else process.stdout.write(`${state.devicePath} (${state.diskPath}) is detached.\n`);
    });
}
