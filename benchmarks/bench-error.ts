/** What the user must know, in one sentence; shown without a stack. */
export class BenchError extends Error {
  override readonly name = "BenchError";
}
