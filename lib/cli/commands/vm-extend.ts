import { Command } from "commander";
import type { RouteBodyInput } from "../../management/routes.js";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";
import { parsePeerUrl } from "../parse-peer-url.js";
import { parseTimeMs } from "../parse-time.js";
import { addTransferOptions, type ReplicationOptions, settingsOf } from "../replication-options.js";

interface Options extends ReplicationOptions {
  readonly to: string;
  readonly proxy?: string;
  readonly initial: string;
  readonly takeOver?: true;
}

export function vmExtendCommand(): Command {
  const command = new Command("extend")
    .description("replicate a VM that is kept here on to a third host (on the replica)")
    .argument("<vm>", "its name or id")
    .requiredOption("--to <url>", "the third host: its name, HOST:PORT, or https://HOST:PORT")
    .option("--proxy <url>", "a proxy on the way that knows CONNECT, http://HOST:PORT")
    .option("--initial <how>", "the first copy: now, +8h, 2026-11-23T22:00 or manual", "now")
    .option(
      "--take-over",
      "the third host has a replica of the VM already: become its primary; only what differs travels",
    );
  return addTransferOptions(command).action(
    async (name: string, options: Options, self: Command) => {
      const vm = await clientOf(self).call("vmExtend", requestOf(options), { vm: name });
      if (globalOptions(self).json) return printJson(vm);
      process.stdout.write(
        `${vm.name} is replicated on to ${vm.relationship?.settings.replicaUrl ?? options.to} from now on; \`tidemark vm status ${vm.name}\` shows how far it is.\n`,
      );
    },
  );
}

function requestOf({
  to,
  proxy,
  initial,
  takeOver,
  ...options
}: Options): RouteBodyInput<"vmExtend"> {
  return {
    replicaUrl: parsePeerUrl(to),
    takesOver: takeOver ?? false,
    ...settingsOf(options),
    ...(proxy === undefined ? {} : { proxyUrl: proxy }),
    ...(initial === "now"
      ? {}
      : { initialStartAtMs: initial === "manual" ? null : parseTimeMs(initial) }),
  };
}
