import { resolve } from "node:path";
import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { passphraseOf, readNamed } from "../media-options.js";
import { formatTime, printJson } from "../output.js";

interface Options {
  readonly from: string;
  readonly passphrase?: boolean;
  readonly passphraseFile?: string;
  readonly keyFile?: string;
}

export function vmImportInitialCommand(): Command {
  return new Command("import-initial")
    .description("take a medium in as a VM's first recovery point (on the replica)")
    .requiredOption("--from <dir>", "the medium's folder")
    .option("--passphrase", "it is protected by a passphrase, which is asked for")
    .option("--passphrase-file <file>", "the passphrase is a file's first line")
    .option("--key-file <file>", "the recipient's private key (PEM); default: this host's own")
    .action(async (options: Options, command: Command) => {
      const asksForIt = options.passphrase === true || options.passphraseFile !== undefined;
      const imported = await clientOf(command).call("mediaImport", {
        directory: resolve(options.from),
        ...(asksForIt ? { passphrase: await passphraseOf(options, false) } : {}),
        ...(options.keyFile === undefined ? {} : { privatePem: await readNamed(options.keyFile) }),
      });
      if (globalOptions(command).json) return printJson(imported);
      const { name, point } = imported;
      process.stdout.write(
        `Imported ${name} as it was at ${formatTime(point.takenAtMs)}. Its primary goes on from there.\n`,
      );
    });
}
