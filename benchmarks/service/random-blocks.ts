/** What 10,000 random blocks take on the wire, beside zstd of those blocks alone. */
import { open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { NbdClient } from "#lib/daemon/demo/nbd-client.js";
import { BenchError } from "../bench-error.js";
import type { BenchContext, Measurement, Trial } from "../model.js";
import { isInstalled } from "../program.js";
import { writeRealFiles } from "../real-files.js";
import type { Scope } from "../scope.js";
import { HostPair } from "./host-pair.js";

const BLOCK_BYTES = 4096;
const DISK_BYTES = 10 * 2 ** 30;

export function randomBlockTrials(context: BenchContext): Trial[] {
  if (!isInstalled("zstd")) return [];
  const count = context.sizing.isQuick ? 500 : 10_000;
  const name = `${count} random 4 KiB blocks of 10 GiB`;
  return [{ name, caseName: name, run: (scope) => measure(scope, context, count, name) }];
}

async function measure(
  scope: Scope,
  context: BenchContext,
  count: number,
  caseName: string,
): Promise<Measurement[]> {
  const pair = await HostPair.start(scope, context);
  const contentPath = join(pair.directory, "content");
  await writeRealFiles(contentPath, count * BLOCK_BYTES, scope.signal);
  const { uri } = await pair.enable({ name: "blocks", sizeBytes: DISK_BYTES, intervalMs: 1000 });
  await pair.firstPoint("blocks", scope.signal);
  await pair.primary.api.call("vmSuspend", {}, { vm: "blocks" });
  await scatter(contentPath, uri, count);
  const sentBytes = await nextSentBytes(pair, count * BLOCK_BYTES, scope);
  await scope.run(["zstd", "-q", "-1", contentPath, "-o", `${contentPath}.zst`]);
  const zstdBytes = (await stat(`${contentPath}.zst`)).size;
  await rm(contentPath);
  return [
    { caseName, subject: "tidemark", values: { sentKib: sentBytes / 1024 } },
    { caseName, subject: "zstd -1", values: { sentKib: zstdBytes / 1024 } },
  ];
}

/** The content's blocks, ascending, each at a place of its own. */
async function scatter(contentPath: string, uri: string, count: number): Promise<void> {
  const client = await NbdClient.connect(uri);
  const content = await open(contentPath);
  const strideBlocks = Math.floor(DISK_BYTES / BLOCK_BYTES / count);
  let state = 99;
  for (let index = 0; index < count; index += 1) {
    const block = Buffer.alloc(BLOCK_BYTES);
    await content.read(block, 0, BLOCK_BYTES, index * BLOCK_BYTES);
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const at = index * strideBlocks + (state % (strideBlocks - 1));
    await client.write(at * BLOCK_BYTES, block);
  }
  await client.flush();
  client.close();
  await content.close();
}

async function nextSentBytes(pair: HostPair, leastBytes: number, scope: Scope): Promise<number> {
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, scope.signal]);
  const reports = pair.cycles("blocks", signal);
  const first = reports.next();
  await pair.primary.api.call("vmResume", {}, { vm: "blocks" });
  for (let next = await first; next.done !== true; next = await reports.next()) {
    if (next.value.changedBytes < leastBytes / 2) continue;
    stop.abort();
    return next.value.sentBytes;
  }
  throw new BenchError("Cannot measure: because the primary host ended.");
}
