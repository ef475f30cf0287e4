import { Command } from "commander";
import { attachCommand } from "./commands/attach.js";
import { backupBeginCommand, backupEndCommand } from "./commands/backup.js";
import { bitmapAddCommand, bitmapListCommand, bitmapRemoveCommand } from "./commands/bitmap.js";
import { demoCommand } from "./commands/demo.js";
import { detachCommand } from "./commands/detach.js";
import { diskResizeCommand } from "./commands/disk-resize.js";
import { diskStateCommands } from "./commands/disk-state.js";
import { groupListCommand, groupPointsCommand } from "./commands/group.js";
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
import { vmGroupCommand } from "./commands/vm-group.js";
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
  addVmCommands(program);
  addDiskCommands(program, local);
  program.addCommand(trackCommand(local));
  program.addCommand(attachCommand(local));
  program.addCommand(detachCommand(local));
  program.addCommand(demoCommand(local));
  inheritSettings(program);
  return program;
}

function addDiskCommands(program: Command, local: LocalCommands): void {
  const disk = program.command("disk").description("disks: those of replicated VMs, and files");
  disk.addCommand(diskResizeCommand());
  for (const command of diskStateCommands(local)) disk.addCommand(command);
  program
    .command("bitmap")
    .description("bitmaps for backup tools: what changed since their last backup")
    .addCommand(bitmapAddCommand())
    .addCommand(bitmapListCommand())
    .addCommand(bitmapRemoveCommand());
  program
    .command("backup")
    .description("disks frozen at one instant, for a backup tool to read over NBD")
    .addCommand(backupBeginCommand())
    .addCommand(backupEndCommand("commit"))
    .addCommand(backupEndCommand("abandon"));
}

function addVmCommands(program: Command): void {
  program
    .command("vm")
    .description("replicated VMs")
    .addCommand(vmEnableCommand())
    .addCommand(vmStatusCommand())
    .addCommand(vmPointsCommand())
    .addCommand(vmFailoverCommand("test-failover"))
    .addCommand(vmFailoverCommand("failover"))
    .addCommand(vmCloseCommand())
    .addCommand(vmGroupCommand())
    .addCommand(vmControlCommand("suspend"))
    .addCommand(vmControlCommand("resume"))
    .addCommand(vmControlCommand("remove"));
  program
    .command("group")
    .description("consistency groups of VMs")
    .addCommand(groupListCommand())
    .addCommand(groupPointsCommand());
}

/** How help looks, also for commands that were made apart from the program. */
function inheritSettings(parent: Command): void {
  for (const command of parent.commands) {
    command.copyInheritedSettings(parent);
    inheritSettings(command);
  }
}
