import { Command } from "commander";
import { clientOf, globalOptions, tidemarkHere } from "../context.js";
import { counted, formatTime, printJson, printTable } from "../output.js";
import { planStepLine, reportLines, runSummary } from "../plan-lines.js";

export function planListCommand(): Command {
  return new Command("list")
    .description("list the recovery plans of this host")
    .action(async (_options: object, command: Command) => {
      const plans = await clientOf(command).call("planList", {});
      if (globalOptions(command).json) return printJson(plans);
      if (plans.length === 0) {
        process.stdout.write("No recovery plans. Add one: tidemark plan add FILE\n");
        return;
      }
      printTable(
        ["PLAN", "STEPS", "DESCRIPTION"],
        plans.map(({ name, steps, description }) => [name, steps.length, description ?? "-"]),
      );
    });
}

export function planShowCommand(): Command {
  return new Command("show")
    .description("show a recovery plan's steps; with --json the document as it was added")
    .argument("<plan>", "its name")
    .action(async (name: string, _options: object, command: Command) => {
      const plan = await clientOf(command).call("planShow", {}, { plan: name });
      if (globalOptions(command).json) return printJson(plan);
      const { description = "", steps } = plan;
      const lines = steps.map((step, index) => `${index + 1}. ${planStepLine(step)}`);
      process.stdout.write(`${[`Plan ${name}: ${description}`.trimEnd(), ...lines].join("\n")}\n`);
    });
}

export function planRemoveCommand(): Command {
  return new Command("remove")
    .description("forget a recovery plan; the reports of its runs stay")
    .argument("<plan>", "its name")
    .action(async (name: string, _options: object, command: Command) => {
      await clientOf(command).call("planRemove", {}, { plan: name });
      if (globalOptions(command).json) return printJson({ name });
      process.stdout.write(`Plan ${name} is removed.\n`);
    });
}

export function planStopCommand(): Command {
  return new Command("stop")
    .description("end the run of a plan that is under way; what it has done stays")
    .argument("<plan>", "its name")
    .action(async (name: string, _options: object, command: Command) => {
      const run = await clientOf(command).call("planStop", {}, { plan: name });
      if (globalOptions(command).json) return printJson(run);
      process.stdout.write(
        `Plan ${name}: ${runSummary(run)}. To go on: ${tidemarkHere(command)} plan run ${name} --resume\n`,
      );
    });
}

export function planEndTestCommand(): Command {
  return new Command("end-test")
    .description("close the test failovers that test runs of a plan have opened")
    .argument("<plan>", "its name")
    .action(async (name: string, _options: object, command: Command) => {
      const ended = await clientOf(command).call("planEndTest", {}, { plan: name });
      if (globalOptions(command).json) return printJson(ended);
      process.stdout.write(`Closed ${counted(ended.endedTestCount, "test failover")}.\n`);
    });
}

export function planRunsCommand(): Command {
  return new Command("runs")
    .description("list the runs of a plan, oldest first")
    .argument("<plan>", "its name")
    .action(async (name: string, _options: object, command: Command) => {
      const runs = await clientOf(command).call("planRunList", {}, { plan: name });
      if (globalOptions(command).json) return printJson(runs);
      if (runs.length === 0) {
        process.stdout.write(`Plan ${name} was never run.\n`);
        return;
      }
      printTable(
        ["BEGUN", "RUN", "OUTCOME"],
        runs.map((run) => [formatTime(run.startedAtMs), run.runId, runSummary(run)]),
      );
    });
}

export function planReportCommand(): Command {
  return new Command("report")
    .description("show what a run of a plan did, step by step, and what each VM lost")
    .argument("<plan>", "its name")
    .argument("[run]", "its id; the last run by default")
    .action(async (plan: string, run: string | undefined, _options: object, command: Command) => {
      const report = await clientOf(command).call("planReport", {}, { plan, run: run ?? "last" });
      if (globalOptions(command).json) return printJson(report);
      process.stdout.write(`${reportLines(report).join("\n")}\n`);
    });
}
