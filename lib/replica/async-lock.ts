/** Runs one task after another, in the order they came. */
export class AsyncLock {
  #tail: Promise<unknown> = Promise.resolve();
  #end: Error | null = null;

  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(() => {
      if (this.#end !== null) throw this.#end;
      return task();
    });
    this.#tail = result.catch(() => undefined);
    return result;
  }

  /** What it guards is gone: tasks that have not begun are refused with this. */
  end(reason: Error): void {
    this.#end = reason;
  }
}
