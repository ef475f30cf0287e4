import { Argument, Command } from "commander";
import { clientOf, globalOptions } from "../context.js";
import { formatTime, printJson } from "../output.js";

export function hostMaintenanceCommand(): Command {
  return new Command("maintenance")
    .description("suspend all replication of this host's VMs, or resume just that")
    .addArgument(new Argument("[on|off]", "without it: show").choices(["on", "off"]))
    .action(async (wanted: string | undefined, _options: object, command: Command) => {
      const client = clientOf(command);
      const status =
        wanted === undefined
          ? await client.call("maintenance", {})
          : await client.call("maintenanceSet", { isOn: wanted === "on" });
      if (globalOptions(command).json) return printJson(status);
      if (status.sinceMs === null) return void process.stdout.write("Not in maintenance.\n");
      const names = status.vms.map(({ name }) => name).join(", ");
      process.stdout.write(
        `In maintenance since ${formatTime(status.sinceMs)}; its end resumes ${names === "" ? "nothing" : names}.\n`,
      );
    });
}
