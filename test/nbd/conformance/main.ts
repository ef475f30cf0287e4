/**
 * `npm run test:nbd -- URI|DEVICE`: the conformance suite against any NBD server,
 * or the part of it about bytes against a file or block device.
 */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { FLAG, nameOf } from "../client/wire.js";
import { ALL_CHECKS } from "./all-checks.js";
import type { Settings } from "./check.js";
import {
  DEVICE_CHECK_NAMES,
  NOT_OF_DEVICES,
  openScratchDevice,
  readDevice,
  runDeviceChecks,
} from "./device-checks.js";
import { lineOf, reportOf } from "./report.js";
import { firstData } from "./scratch.js";
import { type CheckResult, runChecks } from "./suite.js";
import { Target } from "./target.js";

const USAGE = `usage: npm run test:nbd -- [OPTIONS] URI|DEVICE

URI is an NBD URI: nbd://HOST[:PORT]/NAME, nbd+unix:///NAME?socket=PATH, or
nbds://... for TLS, with ?tls-certificates=DIR (ca-cert.pem, client-cert.pem,
client-key.pem) where they are needed. DEVICE is a file or block device.

  --destroy-data     write to a target that holds data
  --only WORD,...    checks whose names hold one of these words
  --except WORD,...  not those whose names hold one of these
  --list             the names of all checks, and what each asks for
  --json             one JSON document instead of text
  --strict           deviations count as failures
  --seed N           of the random loads (default 1)
  --operations N     of each random load (default 600)

Exit status: 0 nothing violates the specification, 1 something does, 2 the suite
could not run, 3 a check broke.`;

const SCAN_BYTES = 4 << 20;
const EXIT = { PASSED: 0, FAILED: 1, CANNOT_RUN: 2, BROKEN: 3 } as const;

class Refusal extends Error {}

const OPTIONS = {
  "destroy-data": { type: "boolean", default: false },
  json: { type: "boolean", default: false },
  list: { type: "boolean", default: false },
  strict: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
  only: { type: "string" },
  except: { type: "string" },
  seed: { type: "string", default: "1" },
  operations: { type: "string", default: "600" },
} as const;

const parsed = () => parseArgs({ options: OPTIONS, allowPositionals: true });
type Options = ReturnType<typeof parsed>["values"];

function wanted({ only, except }: Options): (name: string) => boolean {
  const words = only?.split(",") ?? [""];
  const unwanted = except?.split(",") ?? [];
  const holds = (name: string) => (word: string) => name.includes(word);
  return (name) => words.some(holds(name)) && !unwanted.some(holds(name));
}

function settingsOf({ seed, operations }: Options): Settings {
  const settings = { seed: Number(seed), operations: Number(operations) };
  if (!Object.values(settings).every((value) => Number.isSafeInteger(value) && value > 0)) {
    throw new Refusal("--seed and --operations take whole numbers over 0");
  }
  return settings;
}

function refuseData(at: bigint | number | null, options: Options): void {
  if (at === null || options["destroy-data"]) return;
  throw new Refusal(
    `the target holds data (at byte ${at}), which the checks would overwrite. Give a scratch one, or --destroy-data`,
  );
}

async function refuseDataOf(target: Target, options: Options): Promise<void> {
  if (target.isReadOnly || options["destroy-data"]) return;
  const handshake = await target.handshake();
  const client = await target.go(handshake);
  const at = await firstData(
    target.sizeBytes,
    target.blockBytes,
    target.maximumBytes,
    async (offset, length) => {
      const { error, data } = await client.read(offset, length);
      if (error !== 0) throw new Refusal(`the target cannot be read at byte ${offset}`);
      return data;
    },
  );
  client.destroy();
  refuseData(at, options);
}

async function testServer(uri: string, options: Options): Promise<CheckResult[]> {
  const target = await Target.of(uri);
  await refuseDataOf(target, options);
  const isWanted = wanted(options);
  const checks = ALL_CHECKS.filter(({ name }) => isWanted(name));
  if (!options.json) console.log(describe(target));
  return runChecks(target, checks, settingsOf(options), (result) => {
    if (!options.json) console.log(lineOf(result));
  });
}

function describe({ uri, offers }: Target): string {
  const flags = Object.entries(FLAG)
    .filter(([, bit]) => (offers.flags & bit) !== 0)
    .map(([, bit]) => nameOf(FLAG, bit));
  const size = offers.blockSize;
  const sizes =
    size === null ? "not told" : `${size.minimum} / ${size.preferred} / ${size.maximum}`;
  return [
    `${uri}: ${offers.sizeBytes} bytes`,
    `  flags: ${flags.join(" ")}`,
    `  block sizes: ${sizes}; replies: ${offers.styles.join(", ")}; TLS: ${offers.tls}`,
    `  contexts: ${offers.contexts.join(", ") || "none"}\n`,
  ].join("\n");
}

async function testDevice(path: string, options: Options): Promise<CheckResult[]> {
  const device = await openScratchDevice(path);
  try {
    const read = (at: bigint, length: number) => readDevice(device, Number(at), length);
    refuseData(await firstData(BigInt(device.sizeBytes), 1, SCAN_BYTES, read), options);
    if (device.sizeBytes < 1 << 20) throw new Refusal("the device is smaller than 1 MiB");
    if (!options.json) console.log(`${path}: ${device.sizeBytes} bytes, as a device`);
    if (!options.json) console.log(`  not of devices: ${NOT_OF_DEVICES}\n`);
    const results = await runDeviceChecks(device, settingsOf(options), wanted(options));
    if (!options.json) for (const result of results) console.log(lineOf(result));
    return results;
  } finally {
    await device.file.close();
  }
}

function list(isJson: boolean): void {
  const all = ALL_CHECKS.map(({ name, about }) => ({ name, about }));
  if (isJson) console.log(JSON.stringify(all, null, 2));
  else for (const { name, about } of all) console.log(`${name.padEnd(34)} ${about}`);
  if (!isJson) console.log(`for devices: ${DEVICE_CHECK_NAMES.join(", ")}`);
}

function exitCodeOf(results: readonly CheckResult[], options: Options): number {
  const has = (verdict: CheckResult["verdict"]) => results.some((one) => one.verdict === verdict);
  if (has("broken check")) return EXIT.BROKEN;
  return has("violates") || (options.strict && has("deviates")) ? EXIT.FAILED : EXIT.PASSED;
}

async function main(): Promise<number> {
  const { values: options, positionals } = parsed();
  if (options.help) console.log(USAGE);
  if (options.list) list(options.json);
  if (options.help || options.list) return EXIT.PASSED;
  const [place, ...more] = positionals;
  if (place === undefined || more.length > 0) throw new Refusal(USAGE);
  const isUri = /^nbds?(\+unix)?:/.test(place);
  const results = await (isUri
    ? testServer(place, options)
    : testDevice(resolve(process.env["INIT_CWD"] ?? "", place), options));
  if (results.length === 0) throw new Refusal(`no check is called anything like ${options.only}`);
  console.log(
    options.json ? JSON.stringify({ target: place, results }, null, 2) : `\n${reportOf(results)}`,
  );
  return exitCodeOf(results, options);
}

process.exitCode = await main().catch((thrown: unknown) => {
  console.error(thrown instanceof Error ? thrown.message : String(thrown));
  return EXIT.CANNOT_RUN;
});
