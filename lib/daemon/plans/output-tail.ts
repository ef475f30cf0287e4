/** What is kept of a script's output: it is in the run's document, which is written again and again. */
const KEPT_OUTPUT_BYTES = 16 << 10;

/** The end of an output of any length, in bounded memory. */
export class OutputTail {
  #kept = Buffer.alloc(0);
  #isCut = false;

  add(chunk: Buffer): void {
    const all = Buffer.concat([this.#kept, chunk]);
    this.#isCut ||= all.length > KEPT_OUTPUT_BYTES;
    this.#kept = Buffer.from(all.subarray(Math.max(0, all.length - KEPT_OUTPUT_BYTES)));
  }

  taken(): { readonly output: string; readonly isOutputCut: boolean } {
    return { output: this.#kept.toString("utf8"), isOutputCut: this.#isCut };
  }
}
