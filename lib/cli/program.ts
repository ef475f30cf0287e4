import { Command } from "commander";
import { attachCommand } from "./commands/attach.js";
import { demoCommand } from "./commands/demo.js";
import { detachCommand } from "./commands/detach.js";
import { diskResizeCommand } from "./commands/disk-resize.js";
import { diskStateCommands } from "./commands/disk-state.js";
import { hostInitCommand } from "./commands/host-init.js";
import { hostStartCommand } from "./commands/host-start.js";
import { hostStatusCommand } from "./commands/host-status.js";
import { pkiInitCommand } from "./commands/pki-init.js";
import { pkiIssueCommand } from "./commands/pki-issue.js";
import { trackCommand } from "./commands/track.js";
import { vmCloseCommand } from "./commands/vm-close.js";
import { vmControlCommand } from "./commands/vm-control.js";
import { vmEnableCommand } from "./commands/vm-enable.js";
import { vmFailoverCommand } from "./commands/vm-failover.js";
import { vmPointsCommand } from "./commands/vm-points.js";
import { vmStatusCommand } from "./commands/vm-status.js";
import { defaultHostDirectory } from "./context.js";
import type { LocalCommands } from "./local-commands.js";

/** The `tidemark` command line. */
export function buildProgram(local: LocalCommands, version: string): Command {
  const program = new Command("tidemark")
    .description("Keeps a ready-to-start copy of a virtual machine on another host.")
    .version(version)
    .option("--dir <dir>", "the host's directory", defaultHostDirectory())
    .option("--json", "print data as JSON")
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError("(tidemark --help lists the commands)");
  program
    .command("host")
    .description("this host's service")
    .addCommand(hostInitCommand(local))
    .addCommand(hostStartCommand(local))
    .addCommand(hostStatusCommand());
  program
    .command("pki")
    .description("certificates")
    .addCommand(pkiInitCommand(local))
    .addCommand(pkiIssueCommand(local));
  program
    .command("vm")
    .description("replicated VMs")
    .addCommand(vmEnableCommand())
    .addCommand(vmStatusCommand())
    .addCommand(vmPointsCommand())
    .addCommand(vmFailoverCommand("test-failover"))
    .addCommand(vmFailoverCommand("failover"))
    .addCommand(vmCloseCommand())
    .addCommand(vmControlCommand("suspend"))
    .addCommand(vmControlCommand("resume"))
    .addCommand(vmControlCommand("remove"));
  addDiskCommands(program.command("disk"), local);
  program.addCommand(trackCommand(local));
  program.addCommand(attachCommand(local));
  program.addCommand(detachCommand(local));
  program.addCommand(demoCommand(local));
  inheritSettings(program);
  return program;
}

function addDiskCommands(disk: Command, local: LocalCommands): void {
  disk.description("disks: those of replicated VMs, and files").addCommand(diskResizeCommand());
  for (const command of diskStateCommands(local)) disk.addCommand(command);
}

/** How help looks, also for commands that were made apart from the program. */
function inheritSettings(parent: Command): void {
  for (const command of parent.commands) {
    command.copyInheritedSettings(parent);
    inheritSettings(command);
  }
}
