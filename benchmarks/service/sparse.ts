/** Initial replication takes time by data, not by size. */
import { rename } from "node:fs/promises";
import type { BenchContext, Measurement, Trial } from "../model.js";
import { open } from "node:fs/promises";
import { writeRealFiles } from "../real-files.js";
import type { Scope } from "../scope.js";
import { HostPair } from "./host-pair.js";

const MIB = 2 ** 20;
const TIB = 2 ** 40;

export function sparseTrials(context: BenchContext): Trial[] {
  const dataBytes = context.sizing.isQuick ? 16 * MIB : 1024 * MIB;
  const caseName = `first copy of ${dataBytes / MIB} MiB`;
  const trial = (subject: string, sizeBytes: number): Trial => ({
    name: `${caseName}, ${subject}`,
    caseName,
    run: (scope) => measure(scope, context, { caseName, subject, dataBytes, sizeBytes }),
  });
  return [trial("a disk full of it", dataBytes), trial("sparse 1 TiB", TIB)];
}

interface SparseCase {
  readonly caseName: string;
  readonly subject: string;
  readonly dataBytes: number;
  readonly sizeBytes: number;
}

async function measure(
  scope: Scope,
  context: BenchContext,
  { caseName, subject, dataBytes, sizeBytes }: SparseCase,
): Promise<Measurement[]> {
  const pair = await HostPair.start(scope, context);
  const startedAtMs = { value: 0 };
  await pair.enable({ name: "copy", sizeBytes, intervalMs: 60_000 }, async (path) => {
    await writeRealFiles(`${path}.content`, dataBytes, scope.signal);
    await rename(`${path}.content`, path);
    const file = await open(path, "r+");
    await file.truncate(sizeBytes);
    await file.sync();
    await file.close();
    startedAtMs.value = performance.now();
  });
  await pair.firstPoint("copy", scope.signal);
  const seconds = (performance.now() - startedAtMs.value) / 1000;
  return [{ caseName, subject, values: { seconds } }];
}
