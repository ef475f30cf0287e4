import { Command } from "commander";
import { globalOptions } from "../context.js";
import type { LocalCommands } from "../local-commands.js";
import { printJson } from "../output.js";

export function pkiInitCommand(local: LocalCommands): Command {
  return new Command("init")
    .description("make a small certificate authority for your hosts")
    .requiredOption("--out <dir>", "where ca.crt and ca.key go; keep ca.key off the hosts")
    .option("--name <name>", "the authority's name", "Tidemark CA")
    .action(async (options: { out: string; name: string }, command: Command) => {
      const files = await local.initPki(options.out, options.name);
      if (globalOptions(command).json) return printJson(files);
      process.stdout.write(
        `Wrote ${files.caCertificate} and its key. Keep the key off the hosts.\n`,
      );
    });
}
