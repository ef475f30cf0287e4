const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Runs `work` until it ends or SIGINT / SIGTERM asks it to. A second signal is
 * not held back: it ends the process at once.
 */
export async function untilSignal(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const stopping = new AbortController();
  const stop = () => stopping.abort();
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  // Signal handlers and the data plane's threads do not keep Node from ending.
  const keepAlive = setInterval(() => undefined, LONGEST_TIMER_MS);
  try {
    await work(stopping.signal);
  } finally {
    clearInterval(keepAlive);
    process.removeListener("SIGINT", stop);
    process.removeListener("SIGTERM", stop);
  }
}
