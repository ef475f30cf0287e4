import { rename, rm } from "node:fs/promises";
import { EmbeddedStatisticsStore } from "../broker/embedded-statistics-store.js";
import { toTidemarkError } from "../model/errors.js";

const REPLACED_CODES: ReadonlySet<string> = new Set(["CORRUPT", "FOREIGN", "VERSION_UNKNOWN"]);

/** Statistics that cannot be read are no reason not to replicate: they are set aside. */
export async function openStatistics(
  path: string,
  onNotice: (message: string) => void,
): Promise<EmbeddedStatisticsStore> {
  try {
    return EmbeddedStatisticsStore.open(path);
  } catch (thrown) {
    const error = toTidemarkError(thrown);
    if (!REPLACED_CODES.has(error.code)) throw error;
    const aside = `${path}.refused-${Date.now()}`;
    await rename(path, aside);
    for (const suffix of ["-wal", "-shm"]) await rm(`${path}${suffix}`, { force: true });
    onNotice(`Statistics begin anew; what was there is set aside as ${aside}: ${error.message}`);
    return EmbeddedStatisticsStore.open(path);
  }
}
