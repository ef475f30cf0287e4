import { Command } from "commander";
import type { VmStatus } from "../../management/schemas.js";
import { clientOf, globalOptions, tidemarkHere } from "../context.js";
import { printJson } from "../output.js";

interface Options {
  readonly force?: boolean;
  readonly withoutReplica?: boolean;
  readonly yes?: boolean;
}

export function vmCancelFailoverCommand(): Command {
  return new Command("cancel-failover")
    .description(
      "on the replica: drop what the VM wrote since it was failed over, and give it back; on the primary: take a planned failover back that is under way",
    )
    .argument("<vm>", "its name or id, or VM@TARGET")
    .option("--force", "cut off a guest that has its disks open still")
    .option(
      "--without-replica",
      "on the primary: take the VM back though its replica does not answer; without --yes, say what that risks",
    )
    .option("--yes", "do it")
    .action(async (name: string, options: Options, command: Command) => {
      const { force = false, withoutReplica = false, yes = false } = options;
      if (withoutReplica && !yes) {
        process.stdout.write(riskOf(name, tidemarkHere(command)));
        return;
      }
      const request = { force, withoutReplica };
      const vm = await clientOf(command).call("failoverCancel", request, { vm: name });
      if (globalOptions(command).json) return printJson(vm);
      process.stdout.write(sentenceOf(vm, withoutReplica, tidemarkHere(command)));
    });
}

function riskOf(name: string, tidemark: string): string {
  return [
    `This takes ${name} back without asking its replica. Be sure that it does not run there: if the`,
    "replica has taken over, the VM is on both hosts from then on, each with writes of its own. When",
    "they reach each other again replication stops with that error, both sides are kept as they are,",
    "and one of them has to be given up.",
    `To do it: ${tidemark} vm cancel-failover ${name} --without-replica --yes`,
    "",
  ].join("\n");
}

function sentenceOf({ name, role }: VmStatus, isAlone: boolean, tidemark: string): string {
  if (role === "replica") {
    return `${name} is given back: what it wrote here is gone, and its primary may go on.\n`;
  }
  const how = isAlone ? "taken back without its replica" : "being taken back";
  return `${name} is ${how}; \`${tidemark} vm status ${name}\` shows when it is served again.\n`;
}
