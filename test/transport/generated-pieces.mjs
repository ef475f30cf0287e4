/**
 * Pseudo-random bytes from a seed (xorshift32), half of each piece zero where
 * it is to be compressible. Not a valid segment: for sinks that only hash.
 */
export function* generatedPieces({ seed, pieceBytes, pieceCount, compressible }) {
  let state = (seed >>> 0) | 1;
  for (let index = 0; index < pieceCount; index += 1) {
    const words = new Uint32Array(pieceBytes / 4);
    const filled = compressible ? words.length / 2 : words.length;
    for (let word = 0; word < filled; word += 1) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[word] = state;
    }
    yield new Uint8Array(words.buffer);
  }
}
