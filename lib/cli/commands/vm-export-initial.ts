import { Command } from "commander";
import { clientOf, globalOptions, tidemarkHere } from "../context.js";
import { addMediaOptions, type MediaOptions, mediumOf } from "../media-options.js";
import { printJson } from "../output.js";

interface Options extends MediaOptions {
  readonly cancel?: boolean;
}

export function vmExportInitialCommand(): Command {
  const command = new Command("export-initial")
    .description("write a VM's first copy to a medium, encrypted; the VM runs on")
    .argument("<vm>", "its name or id")
    .option("--cancel", "give the medium up: the first copy goes over the network");
  return addMediaOptions(command).action(async (vm: string, options: Options, self: Command) => {
    const request = options.cancel === true ? { by: "network" as const } : await mediumOf(options);
    const status = await clientOf(self).call("firstCopySet", request, { vm });
    if (globalOptions(self).json) return printJson(status);
    const folder = status.relationship?.firstCopy?.directory;
    process.stdout.write(
      typeof folder === "string"
        ? `Writing to ${folder}; \`${tidemarkHere(command)} vm status ${vm}\` says when it is whole.\n`
        : `The first copy of ${vm} goes over the network.\n`,
    );
  });
}
