import { writeFile } from "node:fs/promises";
import { Command } from "commander";
import {
  type ConfigurationImportReport,
  hostConfigurationDocument,
} from "../../management/configuration-schemas.js";
import { TidemarkError } from "../../model/errors.js";
import { clientOf, globalOptions } from "../context.js";
import { describeError, printJson } from "../output.js";
import { readJsonDocument } from "../read-json-document.js";

export function exportConfigurationCommand(): Command {
  return new Command("export-configuration")
    .description("write the settings of this host and its relationships to a file; no keys")
    .argument("<file>", "a new file")
    .action(async (path: string, _options: object, command: Command) => {
      const configuration = await clientOf(command).call("configurationExport", {});
      await writeNew(path, `${JSON.stringify(configuration, null, 2)}\n`);
      if (globalOptions(command).json) return printJson(configuration);
      const { length } = configuration.relationships;
      process.stdout.write(`Wrote ${path}: the host and ${length} relationships.\n`);
    });
}

export function importConfigurationCommand(): Command {
  return new Command("import-configuration")
    .description("bring this host to what an exported configuration says; removes nothing")
    .argument("<file>", "what export-configuration wrote")
    .option("--dry-run", "say what would change, and change nothing")
    .action(async (path: string, { dryRun = false }: { dryRun?: boolean }, command: Command) => {
      const configuration = await readJsonDocument(path, hostConfigurationDocument, {
        what: "configuration",
        hint: "Give a file that `tidemark host export-configuration` wrote.",
      });
      const report = await clientOf(command).call("configurationImport", { configuration, dryRun });
      if (report.relationships.some(({ error }) => error !== null)) process.exitCode = 1;
      if (globalOptions(command).json) return printJson(report);
      process.stdout.write(`${linesOf(report).join("\n")}\n`);
    });
}

async function writeNew(path: string, text: string): Promise<void> {
  await writeFile(path, text, { flag: "wx", mode: 0o600 }).catch((cause: NodeJS.ErrnoException) => {
    const isThere = cause.code === "EEXIST";
    const why = isThere ? "it is there already" : cause.message;
    throw new TidemarkError(
      isThere ? "ALREADY_EXISTS" : "IO_ERROR",
      `Cannot write ${path}: because ${why}.`,
      { cause },
    );
  });
}

function linesOf({ isDryRun, host, relationships }: ConfigurationImportReport): string[] {
  const changed = (all: ConfigurationImportReport["host"]) =>
    all.map(({ setting, from, to }) => `${setting} from ${text(from)} to ${text(to)}`).join(", ");
  const [enables, changes] = isDryRun ? ["would enable", "would change"] : ["enabled", "changed"];
  const lines = host.length === 0 ? [] : [`Host: ${changes} ${changed(host)}`];
  for (const { name, action, changes: settings, error } of relationships) {
    const what = action === "enable" ? enables : `${changes} ${changed(settings)}`;
    if (error !== null) lines.push(`${name}: refused. ${describe(error)}`);
    else if (action !== "none") lines.push(`${name}: ${what}`);
  }
  return lines.length === 0 ? ["Nothing to change."] : lines;
}

function describe({ message, hint }: { readonly message: string; readonly hint: string | null }) {
  return describeError({ message, hint: hint ?? undefined });
}

function text(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
