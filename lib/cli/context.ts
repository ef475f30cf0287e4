import { homedir } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { ApiClient } from "../management/api-client.js";
import { TidemarkError } from "../model/errors.js";
import { shellWord } from "./output.js";

/** Where a host keeps everything, unless --dir says otherwise. */
export function defaultHostDirectory(): string {
  return process.getuid?.() === 0
    ? "/var/lib/tidemark"
    : join(homedir(), ".local", "share", "tidemark");
}

export interface GlobalOptions {
  readonly dir: string;
  readonly json: boolean;
}

export function globalOptions(command: Command): GlobalOptions {
  const options: { dir?: string; json?: boolean } = command.optsWithGlobals();
  return { dir: options.dir ?? defaultHostDirectory(), json: options.json ?? false };
}

/** How the same host is called again, in what is printed to be copied. */
export function tidemarkHere(command: Command): string {
  const { dir } = globalOptions(command);
  return dir === defaultHostDirectory() ? "tidemark" : `tidemark --dir ${shellWord(dir)}`;
}

export function apiSocketPath(hostDirectory: string): string {
  return join(hostDirectory, "api.sock");
}

export function clientOf(command: Command): ApiClient {
  return new ApiClient(apiSocketPath(globalOptions(command).dir));
}

const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/;
const MS_PER_UNIT = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;

/** "2s", "500ms", "5m", "1h"; a bare number counts seconds. */
export function parseDurationMs(text: string): number {
  const match = DURATION.exec(text);
  if (match === null) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot use ${JSON.stringify(text)} as a duration: it is not like 500ms, 2s, 5m or 1h.`,
    );
  }
  return Number(match[1]) * MS_PER_UNIT[(match[2] ?? "s") as keyof typeof MS_PER_UNIT];
}

/** For options that count something. */
export function parseWholeNumber(text: string, what: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot use ${JSON.stringify(text)} as ${what}: it is not a whole number.`,
  );
}
