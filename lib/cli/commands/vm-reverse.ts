import { Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";
import { parsePeerUrl } from "../parse-peer-url.js";
import {
  addReplicationOptions,
  type ReplicationOptions,
  settingsOf,
} from "../replication-options.js";

interface Options extends ReplicationOptions {
  readonly to: string;
}

export function vmReverseCommand(): Command {
  const command = new Command("reverse")
    .description("replicate a VM that was failed over to this host to the one that had it before")
    .argument("<vm>", "its name or id")
    .requiredOption(
      "--to <url>",
      "that host: its name, HOST:PORT, or https://HOST:PORT; it must accept replicas",
    );
  return addReplicationOptions(command).action(
    async (name: string, options: Options, self: Command) => {
      const replicaUrl = parsePeerUrl(options.to);
      const request = { replicaUrl, ...settingsOf(options) };
      const vm = await clientOf(self).call("vmReverse", request, { vm: name });
      if (globalOptions(self).json) return printJson(vm);
      process.stdout.write(
        `${vm.name} is replicated to ${replicaUrl} from now on; \`tidemark vm status ${vm.name}\` shows how far it is.\n`,
      );
    },
  );
}
