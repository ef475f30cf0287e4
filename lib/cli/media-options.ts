/** The options with which a medium is protected and opened; a passphrase is never one of them. */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";
import type { Command } from "commander";
import type { RouteBodyInput } from "../management/routes.js";
import { TidemarkError } from "../model/errors.js";

export interface MediaOptions {
  readonly out?: string;
  readonly passphrase?: boolean;
  readonly passphraseFile?: string;
  readonly recipient?: string;
}

type FirstCopyBody = RouteBodyInput<"firstCopySet">;

export function addMediaOptions(command: Command): Command {
  return command
    .option("--out <dir>", "where the medium gets its folder")
    .option("--passphrase", "protect the medium by a passphrase, which is asked for")
    .option("--passphrase-file <file>", "protect it by the passphrase in a file's first line")
    .option(
      "--recipient <file>",
      "protect it for who has the key of a certificate or public key (PEM), as the replica host's pki/host.crt",
    );
}

export async function mediumOf(options: MediaOptions): Promise<FirstCopyBody> {
  const { out, passphrase, passphraseFile, recipient } = options;
  if (out === undefined) throw missing("no folder was named", "Name one with --out.");
  const given = [passphrase, passphraseFile, recipient].filter((one) => one !== undefined);
  if (given.length !== 1) {
    throw missing(
      "it must be protected in one way",
      "Give --passphrase-file, --passphrase or --recipient.",
    );
  }
  const protection =
    recipient === undefined
      ? { kind: "passphrase" as const, passphrase: await passphraseOf(options, true) }
      : { kind: "recipient" as const, publicPem: await readNamed(recipient) };
  return { by: "medium", directory: resolve(out), protection };
}

/** Of --passphrase-file, else asked for at the terminal; twice when it is new. */
export async function passphraseOf(
  { passphraseFile }: Pick<MediaOptions, "passphraseFile">,
  isNew: boolean,
): Promise<string> {
  if (passphraseFile !== undefined) {
    return (await readNamed(passphraseFile)).split(/\r?\n/, 1)[0] ?? "";
  }
  const first = await ask("Passphrase: ");
  if (isNew && (await ask("Again: ")) !== first) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "Cannot use the passphrase: because it was typed in two ways.",
    );
  }
  return first;
}

export async function readNamed(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new TidemarkError(
      "NOT_FOUND",
      `Cannot read ${path}: because ${(cause as Error).message}.`,
      {
        cause,
      },
    );
  }
}

/** What is typed is not shown. */
async function ask(question: string): Promise<string> {
  if (!process.stdin.isTTY) {
    throw missing("there is no terminal to ask for a passphrase", "Give --passphrase-file.");
  }
  process.stderr.write(question);
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const terminal = createInterface({ input: process.stdin, output: silent, terminal: true });
  try {
    return await terminal.question("");
  } finally {
    terminal.close();
    process.stderr.write("\n");
  }
}

function missing(reason: string, hint: string): TidemarkError {
  return new TidemarkError("INVALID_ARGUMENT", `Cannot use a medium: because ${reason}.`, { hint });
}
