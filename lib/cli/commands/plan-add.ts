import { Command } from "commander";
import { clientOf, globalOptions, tidemarkHere } from "../context.js";
import { counted, printJson } from "../output.js";
import { readJsonDocument } from "../read-json-document.js";

interface Options {
  readonly replace?: true;
}

export function planAddCommand(): Command {
  return new Command("add")
    .description("keep a recovery plan on this host, which has the replicas")
    .argument("<file>", "the plan, a JSON document")
    .option("--replace", "the one of the same name")
    .action(async (path: string, { replace }: Options, command: Command) => {
      const { recoveryPlan } = await import("../../management/plan-schemas.js");
      const plan = await readJsonDocument(path, recoveryPlan, {
        what: "part of a recovery plan",
        hint: "docs/recovery-plans.md has the form of a plan, with an example.",
      });
      const body = { plan, replaces: replace ?? false };
      const { name, steps } = await clientOf(command).call("planAdd", body);
      if (globalOptions(command).json) return printJson(plan);
      process.stdout.write(
        `Plan ${name} is kept here: ${counted(steps.length, "step")}. Test it: ${tidemarkHere(command)} plan run ${name} --test\n`,
      );
    });
}
