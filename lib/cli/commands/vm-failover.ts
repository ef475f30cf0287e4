import { Command } from "commander";
import { TidemarkError } from "../../model/errors.js";
import { clientOf, globalOptions } from "../context.js";
import { formatTime, printJson, printTable } from "../output.js";

interface Options {
  readonly point?: string;
}

/** "vm test-failover" and "vm failover": both open a recovery point as disks. */
export function vmFailoverCommand(kind: "test-failover" | "failover"): Command {
  const purpose =
    kind === "failover"
      ? "serve a recovery point's disks for use, with a scratch layer (on the replica)"
      : "serve a recovery point's disks for a test; replication goes on (on the replica)";
  return new Command(kind)
    .description(purpose)
    .argument("<vm>", "its name or id")
    .option("--point <number|id>", "which recovery point; the newest by default")
    .action(async (name: string, options: Options, command: Command) => {
      const client = clientOf(command);
      const pointId = await resolvePoint(command, name, options.point);
      const body = pointId === undefined ? {} : { pointId };
      const route = kind === "failover" ? "failover" : "testFailover";
      const opened = await client.call(route, body, { vm: name });
      if (globalOptions(command).json) return printJson(opened);
      process.stdout.write(
        `Recovery point ${opened.point.sequence} of ${formatTime(opened.point.takenAtMs)} is served here:\n\n`,
      );
      printTable(
        ["DISK", "NBD URI"],
        opened.disks.map((disk) => [disk.name, disk.uri]),
      );
      process.stdout.write(`\nEnd it with: tidemark vm close ${opened.exportId}\n`);
    });
}

async function resolvePoint(
  command: Command,
  vm: string,
  point: string | undefined,
): Promise<string | undefined> {
  if (point === undefined || !/^\d+$/.test(point)) return point;
  const points = await clientOf(command).call("pointList", {}, { vm });
  const found = points.find((candidate) => candidate.sequence === Number(point));
  if (found !== undefined) return found.pointId;
  throw new TidemarkError("NOT_FOUND", `Cannot find recovery point ${point} of ${vm}.`, {
    hint: `tidemark vm points ${vm} lists them.`,
  });
}
