import { Argument, Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { printJson } from "../output.js";

export function hostAcceptReplicasCommand(): Command {
  return new Command("accept-replicas")
    .description("turn on or off that other hosts may replicate to this one")
    .addArgument(
      new Argument("<on|off>", "replicas that are there stay, either way").choices(["on", "off"]),
    )
    .action(async (wanted: string, _options: object, command: Command) => {
      const status = await clientOf(command).call("hostAcceptReplicas", {
        accepts: wanted === "on",
      });
      if (globalOptions(command).json) return printJson(status);
      process.stdout.write(
        status.acceptsReplicas
          ? `Accepts replicas at ${status.peerAddress ?? ""}, kept in ${status.replicaRoot}.\n`
          : "Accepts no replicas any more; what is there stays.\n",
      );
    });
}
