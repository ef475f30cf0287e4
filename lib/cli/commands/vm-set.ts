import { Command } from "commander";
import { TidemarkError } from "../../model/errors.js";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";
import { parsePeerUrl } from "../parse-peer-url.js";
import {
  addReplicationOptions,
  type ReplicationOptions,
  settingsOf,
} from "../replication-options.js";
import { settingsLines } from "../settings-lines.js";

interface Options extends ReplicationOptions {
  readonly replica?: string;
  readonly proxy?: string;
}

export function vmSetCommand(): Command {
  const command = new Command("set")
    .description("change how a running VM is replicated, from its next cycle on")
    .argument("<vm>", "its name or id, or VM@TARGET")
    .option("--replica <url>", "another address of the same replica, https://HOST:PORT")
    .option("--proxy <url>", "another proxy on the way, http://HOST:PORT; or none");
  return addReplicationOptions(command).action(
    async (vm: string, options: Options, self: Command) => {
      const change = {
        ...settingsOf(options),
        ...(options.replica === undefined ? {} : { replicaUrl: parsePeerUrl(options.replica) }),
        ...(options.proxy === undefined ? {} : { proxyUrl: proxyOf(options.proxy) }),
      };
      if (Object.keys(change).length === 0) {
        throw new TidemarkError(
          "INVALID_ARGUMENT",
          `Cannot change ${vm}: because no setting was given.`,
          { hint: "tidemark vm set --help lists them." },
        );
      }
      const status = await clientOf(self).call("vmSettings", change, { vm });
      if (globalOptions(self).json) return printJson(status);
      const settings = status.relationship?.settings;
      if (settings !== undefined) process.stdout.write(`${settingsLines(settings).join("\n")}\n`);
    },
  );
}

function proxyOf(text: string): string | null {
  return text === "none" ? null : text;
}
