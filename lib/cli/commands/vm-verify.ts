import { setTimeout as sleep } from "node:timers/promises";
import { Command, Option } from "commander";
import type { VerificationStatusBody } from "../../management/verification-schemas.js";
import { clientOf, globalOptions, parseWholeNumber } from "../context.js";
import { printJson } from "../output.js";
import { verificationLines } from "../verification-lines.js";

const POLL_MS = 250;

const CONTROLS = {
  status: "verificationStatus",
  pause: "verificationPause",
  resume: "verificationResume",
  stop: "verificationStop",
} as const;

type Control = keyof typeof CONTROLS;

type Options = {
  readonly point?: string;
  readonly all?: true;
  readonly repair?: boolean;
} & Partial<Record<Control, true>>;

/** Exit status 1 when something is damaged. */
export function vmVerifyCommand(): Command {
  const command = new Command("verify")
    .description("read a replica again and hold it against its checksums (on the replica)")
    .argument("<vm>", "its name or id")
    .option("--point <number>", "this recovery point only")
    .addOption(new Option("--all", "all recovery points; the default").conflicts("point"))
    .option("--repair", "write damaged small files again from what the service has in memory");
  for (const [control, purpose] of [
    ["status", "show what is known, and begin nothing"],
    ["pause", "pause the one that is under way"],
    ["resume", "go on with it"],
    ["stop", "stop it: what it has found counts for nothing"],
  ] as const) {
    command.addOption(new Option(`--${control}`, purpose).conflicts(["point", "all", "repair"]));
  }
  return command.action(verify);
}

async function verify(vm: string, options: Options, command: Command): Promise<void> {
  const client = clientOf(command);
  const control = (Object.keys(CONTROLS) as Control[]).find((name) => options[name] === true);
  const status =
    control === undefined
      ? await verifyToTheEnd(command, vm, options)
      : await client.call(CONTROLS[control], {}, { vm });
  if (status.damagedPoints.length > 0) process.exitCode = 1;
  if (globalOptions(command).json) return printJson(status);
  process.stdout.write(`${verificationLines(status).join("\n")}\n`);
}

async function verifyToTheEnd(
  command: Command,
  vm: string,
  { point, repair = false }: Options,
): Promise<VerificationStatusBody> {
  const client = clientOf(command);
  const pointSequence = point === undefined ? null : parseWholeNumber(point, "a point's number");
  let status = await client.call("verificationStart", { pointSequence, isRepair: repair }, { vm });
  while (status.running !== null) {
    await sleep(POLL_MS);
    status = await client.call("verificationStatus", {}, { vm });
  }
  if (status.lastFailure !== null) process.exitCode = 1;
  return status;
}
