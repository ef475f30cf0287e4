/** Runs `lane` several times at once; the first failure stops the others and is thrown. */
export async function inLanes(
  count: number,
  signal: AbortSignal,
  lane: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const onAbort = () => stop.abort(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  const failures: unknown[] = [];
  const guarded = async () => {
    try {
      await lane(stop.signal);
    } catch (thrown) {
      failures.push(thrown);
      stop.abort(thrown);
    }
  };
  try {
    signal.throwIfAborted();
    await Promise.all(Array.from({ length: count }, guarded));
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
  if (failures.length > 0) throw failures[0];
}
