/**
 * Which blocks tend to be written again: in how many of a target's last seven cuts
 * each block was.
 *
 * Representation: for each chunk of 4096 blocks that one of these cuts had, a byte a
 * block, whose highest bit is the present cut; the bytes of a chunk are shifted when a
 * later cut first touches it. Workload: every block of every cut once, ascending: a
 * look into the chunk at hand, one byte read and written. At most 1024 chunks are kept
 * (4 MiB, 16 GiB of a disk in blocks of 4 KiB); what was touched longest ago goes. In
 * memory only: a new process learns it again, and order is all that depends on it.
 */
const CHUNK_BLOCKS = 4096;
const MAX_CHUNKS = 1024;
const PRESENT = 0x80;

interface Chunk {
  cut: number;
  readonly history: Uint8Array;
}

export class BlockHeat {
  readonly #chunks = new Map<number, Chunk>();
  #cut = 0;
  #granularityBytes = 0;
  #currentIndex = -1;
  #current: Chunk = { cut: 0, history: new Uint8Array(0) };

  /** Before the first touch() of each cut. Blocks of another size are other blocks. */
  beginCut(granularityBytes: number): void {
    if (granularityBytes !== this.#granularityBytes) this.#chunks.clear();
    this.#granularityBytes = granularityBytes;
    this.#cut += 1;
    this.#currentIndex = -1;
  }

  /** The present cut has the block; in how many of the seven before was it? */
  touch(block: number): number {
    const index = Math.floor(block / CHUNK_BLOCKS);
    if (index !== this.#currentIndex) this.#enter(index);
    const { history } = this.#current;
    const at = block - index * CHUNK_BLOCKS;
    const before = history[at] ?? 0;
    history[at] = before | PRESENT;
    return popCount(before & ~PRESENT);
  }

  #enter(index: number): void {
    const chunk = this.#chunks.get(index) ?? {
      cut: this.#cut,
      history: new Uint8Array(CHUNK_BLOCKS),
    };
    const age = this.#cut - chunk.cut;
    if (age > 0) shift(chunk.history, Math.min(age, 8));
    chunk.cut = this.#cut;
    this.#currentIndex = index;
    this.#current = chunk;
    // Last touched, last in the map.
    this.#chunks.delete(index);
    this.#chunks.set(index, chunk);
    if (this.#chunks.size <= MAX_CHUNKS) return;
    for (const oldest of this.#chunks.keys()) {
      this.#chunks.delete(oldest);
      return;
    }
  }
}

function shift(history: Uint8Array, cuts: number): void {
  for (const [at, byte] of history.entries()) history[at] = byte >> cuts;
}

function popCount(byte: number): number {
  let count = 0;
  for (let rest = byte; rest !== 0; rest &= rest - 1) count += 1;
  return count;
}
