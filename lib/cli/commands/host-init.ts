import { hostname } from "node:os";
import { Command } from "commander";
import { globalOptions, tidemarkHere } from "../context.js";
import type { LocalCommands } from "../local-commands.js";
import { printJson } from "../output.js";
import { parseListen } from "../parse-listen.js";

export function hostInitCommand(local: LocalCommands): Command {
  return new Command("init")
    .description("make this host's directory and configuration")
    .option("--name <host>", "the host's name, as in its certificate", hostname())
    .option("--listen <address:port>", "where peers reach this host", "0.0.0.0:8461")
    .option("--replica-root <dir>", "accept replicas, and keep them there")
    .action(
      async (options: { name: string; listen: string; replicaRoot?: string }, command: Command) => {
        const { dir, json } = globalOptions(command);
        const { host, port } = parseListen(options.listen);
        const files = await local.initHost({
          directory: dir,
          hostName: options.name,
          listenHost: host,
          listenPort: port,
          replicaRoot: options.replicaRoot ?? null,
        });
        if (json) return printJson(files);
        process.stdout.write(
          `Wrote ${files.configuration}.\n` +
            `Now put ca.crt, host.crt and host.key into ${files.pkiDirectory}: copy them there, or run\n` +
            `  tidemark pki init --out CA_DIR\n` +
            `  tidemark pki issue --ca CA_DIR --out ${files.pkiDirectory} ${options.name}\n` +
            `Then run ${tidemarkHere(command)} host start.\n`,
        );
      },
    );
}
