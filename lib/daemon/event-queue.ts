/** Pushed values as an async iterable. A reader that falls far behind loses the oldest. */
export class EventQueue<T> implements AsyncIterable<T> {
  readonly #values: T[] = [];
  readonly #capacity: number;
  #wake: (() => void) | null = null;
  #isEnded = false;

  constructor(capacity = 10_000) {
    this.#capacity = capacity;
  }

  push(value: T): void {
    this.#values.push(value);
    if (this.#values.length > this.#capacity) this.#values.shift();
    this.#wake?.();
  }

  end(): void {
    this.#isEnded = true;
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, void> {
    for (;;) {
      const value = this.#values.shift();
      if (value !== undefined) {
        yield value;
      } else {
        if (this.#isEnded) return;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = null;
      }
    }
  }
}
