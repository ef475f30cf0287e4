import { Command } from "commander";
import { globalOptions } from "../context.js";
import type { LocalCommands } from "../local-commands.js";
import { printJson } from "../output.js";

export function pkiIssueCommand(local: LocalCommands): Command {
  return new Command("issue")
    .description("issue a host's certificate, for its names or addresses")
    .argument(
      "<host-name...>",
      "names and addresses at which peers reach the host; the first is its identity",
    )
    .requiredOption("--ca <dir>", "the directory that pki init wrote")
    .requiredOption(
      "--out <dir>",
      "where host.crt, host.key and ca.crt go: the host's pki directory",
    )
    .action(async (hostNames: string[], options: { ca: string; out: string }, command: Command) => {
      const files = await local.issueCertificate({
        caDirectory: options.ca,
        outDirectory: options.out,
        hostNames,
      });
      if (globalOptions(command).json) return printJson(files);
      process.stdout.write(`Wrote ${files.certificate} and ${files.key}.\n`);
    });
}
