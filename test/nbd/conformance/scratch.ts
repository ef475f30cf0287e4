/** Whether something may be overwritten: it may when all of it reads as zero. */

const PIECE_BYTES = 4 << 20;

/** The first place that is not zero, looked for up to `sizeBytes`; null if there is none. */
export async function firstData(
  sizeBytes: bigint,
  blockBytes: number,
  maximumBytes: number,
  read: (at: bigint, length: number) => Promise<Buffer>,
): Promise<bigint | null> {
  const pieceBytes = Math.min(PIECE_BYTES, maximumBytes - (maximumBytes % blockBytes));
  const end = sizeBytes - (sizeBytes % BigInt(blockBytes));
  for (let at = 0n; at < end; at += BigInt(pieceBytes)) {
    const left = end - at;
    const piece = await read(at, left < BigInt(pieceBytes) ? Number(left) : pieceBytes);
    const index = firstNonZero(piece);
    if (index !== -1) return at + BigInt(index);
  }
  return null;
}

const ZEROES = Buffer.alloc(PIECE_BYTES);

function firstNonZero(piece: Buffer): number {
  if (piece.equals(ZEROES.subarray(0, piece.length))) return -1;
  return piece.findIndex((byte) => byte !== 0);
}
