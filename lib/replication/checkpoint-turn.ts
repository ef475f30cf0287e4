/** One checkpoint a host at a time: gates that close together add up their pauses. */
export class CheckpointTurn {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs `work` when those that asked before have ended, however they ended. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }
}
