import { Command } from "commander";
import type { RouteBodyInput } from "../../management/routes.js";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";
import { parsePeerUrl } from "../parse-peer-url.js";
import { parseTimeMs } from "../parse-time.js";
import { addTransferOptions, type ReplicationOptions, settingsOf } from "../replication-options.js";

interface Options extends ReplicationOptions {
  readonly to: string;
  readonly name?: string;
  readonly proxy?: string;
  readonly initial: string;
  readonly takeOver?: true;
}

export function vmAddTargetCommand(): Command {
  const command = new Command("add-target")
    .description("replicate a VM to one more host (on the primary)")
    .argument("<vm>", "its name or id")
    .requiredOption("--to <url>", "the host: its name, HOST:PORT, or https://HOST:PORT")
    .option("--name <name>", "what the target is called, as VM@NAME (default: the host's name)")
    .option("--proxy <url>", "a proxy on the way that knows CONNECT, http://HOST:PORT")
    .option("--initial <how>", "the first copy: now, +8h, 2026-11-23T22:00 or manual", "now")
    .option(
      "--take-over",
      "that host has a replica of the VM by another primary: become its primary; only what differs travels",
    );
  return addTransferOptions(command).action(
    async (name: string, options: Options, self: Command) => {
      const vm = await clientOf(self).call("vmAddTarget", requestOf(options), { vm: name });
      if (globalOptions(self).json) return printJson(vm);
      const added = vm.targets.at(-1)?.name ?? "";
      process.stdout.write(
        `${vm.name} is replicated to ${options.to} too from now on; \`tidemark vm status ${vm.name}@${added}\` shows how far it is.\n`,
      );
    },
  );
}

function requestOf(given: Options): RouteBodyInput<"vmAddTarget"> {
  const { to, name, proxy, initial, takeOver, ...options } = given;
  return {
    replicaUrl: parsePeerUrl(to),
    takesOver: takeOver ?? false,
    ...settingsOf(options),
    ...(name === undefined ? {} : { targetName: name }),
    ...(proxy === undefined ? {} : { proxyUrl: proxy }),
    ...(initial === "now"
      ? {}
      : { initialStartAtMs: initial === "manual" ? null : parseTimeMs(initial) }),
  };
}
