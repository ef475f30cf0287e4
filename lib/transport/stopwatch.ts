/** Adds up the time that some pieces of work take. */
export class Stopwatch {
  elapsedMs = 0;

  time<T>(work: () => T): T {
    const beganMs = performance.now();
    try {
      return work();
    } finally {
      this.elapsedMs += performance.now() - beganMs;
    }
  }

  async timeAsync<T>(work: () => Promise<T>): Promise<T> {
    const beganMs = performance.now();
    try {
      return await work();
    } finally {
      this.elapsedMs += performance.now() - beganMs;
    }
  }
}
