import type { NativeLayerMerge, NativeLayerSummary } from "../tracking/layer-binding.js";

const STEP_BYTES = 8 << 20;

export interface MergeOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called between the pieces of a copy with how long the last took: commits come first. */
  readonly pause?: ((tookMs: number, signal?: AbortSignal) => Promise<void>) | undefined;
}

/** Durable when it resolves. */
export async function runMerge(
  merge: NativeLayerMerge,
  { signal, pause }: MergeOptions,
): Promise<NativeLayerSummary> {
  try {
    for (;;) {
      signal?.throwIfAborted();
      const startedAtMs = performance.now();
      if (!(await merge.step(STEP_BYTES))) return await merge.finish();
      await pause?.(performance.now() - startedAtMs, signal);
    }
  } finally {
    await merge.close();
  }
}
