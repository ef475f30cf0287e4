import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Command, Option } from "commander";
import type { PointCopyBody } from "../../management/copy-schemas.js";
import type { ApiClient } from "../../management/api-client.js";
import { isErrorCode, TidemarkError } from "../../model/errors.js";
import { COPY_FORMATS, type CopyFormat } from "../../model/point-copies.js";
import { clientOf, globalOptions } from "../context.js";
import { formatBytes, printJson, printTable } from "../output.js";
import { POINT_NAMES, resolvePoint } from "../resolve-point.js";
import { untilSignal } from "../until-signal.js";
import { warnIfDamaged } from "../warn-if-damaged.js";

const POLL_MS = 200;

interface Options {
  readonly point?: string;
  readonly format: CopyFormat;
  readonly out: string;
}

/** Ctrl-C stops the copy, and nothing of it is left. */
export function vmExportCommand(): Command {
  return new Command("export")
    .description("copy a recovery point's disks to files (on the replica)")
    .argument("<vm>", "its name or id")
    .option("--point <point>", `which recovery point: ${POINT_NAMES}`)
    .addOption(new Option("--format <format>", "of the files").choices(COPY_FORMATS).default("raw"))
    .requiredOption("--out <dir>", "where the copy becomes a directory")
    .action(async (vm: string, options: Options, command: Command) => {
      const client = clientOf(command);
      const pointId = await resolvePoint(command, vm, options.point);
      const { format, out } = options;
      const body = {
        format,
        directory: resolve(out),
        ...(pointId === undefined ? {} : { pointId }),
      };
      const started = await client.call("copyStart", body, { vm });
      const copy = await followCopy(client, started);
      await warnIfDamaged(client, vm, copy.pointSequence);
      if (globalOptions(command).json) return printJson(copy);
      process.stdout.write(`Recovery point ${copy.pointSequence} is in ${copy.directory}:\n\n`);
      printTable(
        ["DISK", "FILE", "SIZE"],
        copy.disks.map(({ name, file, sizeBytes }) => [name, file, formatBytes(sizeBytes)]),
      );
    });
}

async function followCopy(client: ApiClient, started: PointCopyBody): Promise<PointCopyBody> {
  const parameters = { copy: started.copyId };
  let copy = started;
  await untilSignal(async (signal) => {
    while (copy.state === "running") {
      await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
      copy = await client.call(signal.aborted ? "copyStop" : "copyStatus", {}, parameters);
    }
  });
  if (copy.failure === null) return copy;
  const { code, message } = copy.failure;
  throw new TidemarkError(isErrorCode(code) ? code : "INTERNAL", message);
}
