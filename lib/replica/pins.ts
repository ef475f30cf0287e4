/** Counts who uses which recovery point: nothing is merged while one is in use. */
export class Pins {
  readonly #counts = new Map<string, number>();

  /** Answers how to undo it; undoing twice counts once. */
  pin(pointId: string): () => void {
    this.#counts.set(pointId, (this.#counts.get(pointId) ?? 0) + 1);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      const left = (this.#counts.get(pointId) ?? 1) - 1;
      if (left === 0) this.#counts.delete(pointId);
      else this.#counts.set(pointId, left);
    };
  }

  get isEmpty(): boolean {
    return this.#counts.size === 0;
  }
}
