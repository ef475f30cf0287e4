import { parseArgs } from "node:util";
import { BenchError } from "./bench-error.js";
import type { Mix, Sizing, Sweep } from "./model.js";

const MIB = 2 ** 20;
const MIXES: readonly Mix[] = ["randread", "randwrite", "randrw", "read", "write"];
const SWEEPS = ["block-size", "granularity", "queue-depth", "connections", "mix"] as const;

export const USAGE = `Usage: npm run bench -- [options]

Without options: bitmap, device, nbd, durability, cuts and cycle, in about a quarter of an hour.

  --quick              everything, tiny: that it runs, not how fast (about a minute)
  --workload a,b       only these (bitmap, device, nbd, nbd-tcp, nbd-batch, nbd-cold, nbd-direct,
                       pairs, durability, cuts, cycle, merge, failover, service, tracking)
  --rounds N           samples of each row (default 5; 1 with --quick)
  --seconds N          how long one NBD sample takes (default 2)
  --size SIZE          of the scratch file, such as 512m or 4g (default 512m)

Your own storage:
  --disk PATH          measure change tracking on the storage behind PATH. A directory, or a
                       file that does not exist: a scratch file is made there and removed.
  --destroy-data       let PATH be a device or an existing file; ITS CONTENT IS LOST. Refused
                       while it is mounted, in use, or bears a file system.
  --block-size 4k,64k  --granularity 4k,64k  --queue-depth 1,32  --connections 1,4
  --mix randread,randwrite,randrw,read,write
                       what to sweep over

Results:
  --output FILE        where the JSON goes (default benchmarks/results/latest.json; none with
                       --quick)
  --compare OLD.json   ratio of each row to an older result; rows beyond the spread are marked
  --check              measure what benchmarks/bars.json names; exit 1 when a bar is not met
  --load FILE          take this result instead of measuring
  --json               print JSON instead of tables
`;

export interface BenchOptions {
  readonly help: boolean;
  readonly workloads: readonly string[] | null;
  readonly diskPath: string | null;
  readonly destroyData: boolean;
  readonly outputPath: string | null;
  readonly comparePath: string | null;
  readonly loadPath: string | null;
  readonly check: boolean;
  readonly json: boolean;
  readonly sizing: Sizing;
  readonly sweep: Sweep;
}

export function parseArguments(args: readonly string[]): BenchOptions {
  const { values } = parse(args);
  const isQuick = values.quick === true;
  if (isQuick && values.check === true) {
    throw new BenchError("Cannot check bars with --quick: because what it measures means nothing.");
  }
  const swept = SWEEPS.find((name) => values[name] !== undefined);
  if (swept !== undefined && values.disk === undefined) {
    throw new BenchError(`Cannot sweep over --${swept}: because that needs --disk PATH.`);
  }
  if (values["destroy-data"] === true && values.disk === undefined) {
    throw new BenchError("Cannot use --destroy-data: because no --disk is named.");
  }
  return {
    help: values.help === true,
    workloads: values.workload?.split(",") ?? null,
    diskPath: values.disk ?? null,
    destroyData: values["destroy-data"] === true,
    outputPath: values.output ?? null,
    comparePath: values.compare ?? null,
    loadPath: values.load ?? null,
    check: values.check === true,
    json: values.json === true,
    sizing: sizingOf(isQuick, values),
    sweep: sweepOf(isQuick, values),
  };
}

function parse(args: readonly string[]) {
  const string = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  try {
    return parseArgs({
      args: [...args],
      options: {
        help: { ...flag, short: "h" },
        quick: flag,
        workload: string,
        rounds: string,
        seconds: string,
        size: string,
        disk: string,
        "destroy-data": flag,
        "block-size": string,
        granularity: string,
        "queue-depth": string,
        connections: string,
        mix: string,
        output: string,
        compare: string,
        load: string,
        check: flag,
        json: flag,
      },
    });
  } catch (thrown) {
    const why = thrown instanceof Error ? thrown.message.split(". ")[0] : String(thrown);
    throw new BenchError(`Cannot understand the arguments: ${why ?? ""}. See --help.`);
  }
}

type Values = Readonly<Record<string, string | boolean | undefined>>;

function sizingOf(isQuick: boolean, values: Values): Sizing {
  const text = (name: string) => values[name] as string | undefined;
  const size = text("size");
  return {
    isQuick,
    rounds: parseWhole(text("rounds") ?? (isQuick ? "1" : "5"), "--rounds", 1000),
    seconds: parseCount(text("seconds") ?? (isQuick ? "0.3" : "2"), "--seconds", 0.1, 3600),
    scratchBytes: parseSize(size ?? (isQuick ? "32m" : "512m"), "--size", 16 * MIB, 2 ** 44),
    cycleBytes: isQuick ? 24 * MIB : 512 * MIB,
  };
}

function sweepOf(isQuick: boolean, values: Values): Sweep {
  const list = <T>(name: string, fallback: string, one: (text: string) => T): readonly T[] =>
    ((values[name] as string | undefined) ?? fallback).split(",").map(one);
  return {
    blockSizes: list("block-size", "4k", (text) => parseBlock(text, "--block-size", 512)),
    granularities: list("granularity", isQuick ? "4k" : "4k,64k", (text) =>
      parseBlock(text, "--granularity", 4096),
    ),
    queueDepths: list("queue-depth", isQuick ? "32" : "1,32", (text) =>
      parseWhole(text, "--queue-depth", 1024),
    ),
    connections: list("connections", "1", (text) => parseWhole(text, "--connections", 8)),
    mixes: list("mix", isQuick ? "randwrite" : "randread,randwrite,randrw", parseMix),
  };
}

const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  k: 2 ** 10,
  m: MIB,
  g: 2 ** 30,
  t: 2 ** 40,
};

export function parseSize(text: string, option: string, min: number, max: number): number {
  const match = /^(\d+)([kmgt]?)(?:i?b)?$/i.exec(text);
  const bytes = Number(match?.[1]) * (UNITS[(match?.[2] ?? "").toLowerCase()] ?? Number.NaN);
  if (bytes >= min && bytes <= max) return bytes;
  throw new BenchError(
    `Cannot use ${JSON.stringify(text)} for ${option}: because it takes a size like 4k, 64k, 512m, from ${min} to ${max} bytes.`,
  );
}

function parseBlock(text: string, option: string, min: number): number {
  const bytes = parseSize(text, option, min, 16 * MIB);
  if (Number.isInteger(Math.log2(bytes))) return bytes;
  throw new BenchError(`Cannot use ${text} for ${option}: because it is not a power of two.`);
}

function parseCount(text: string, option: string, min: number, max: number): number {
  const value = Number(text);
  if (text.trim() !== "" && value >= min && value <= max) return value;
  throw new BenchError(
    `Cannot use ${JSON.stringify(text)} for ${option}: because it takes a number from ${min} to ${max}.`,
  );
}

function parseWhole(text: string, option: string, max: number): number {
  const value = parseCount(text, option, 1, max);
  if (Number.isInteger(value)) return value;
  throw new BenchError(`Cannot use ${text} for ${option}: because it is not a whole number.`);
}

function parseMix(text: string): Mix {
  const mix = MIXES.find((candidate) => candidate === text);
  if (mix !== undefined) return mix;
  throw new BenchError(
    `Cannot use ${JSON.stringify(text)} for --mix: because it is none of ${MIXES.join(", ")}.`,
  );
}
