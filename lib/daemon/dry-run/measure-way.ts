import type { SegmentReceipt } from "../../model/delta.js";

export interface WayMeasurement {
  /** Disk content that was sent, and what it took on the wire. */
  readonly contentBytes: number;
  readonly wireBytes: number;
  readonly durationMs: number;
}

/** Sends content the way that segments go, without its being kept. */
export type SendProbe = (pieces: readonly Uint8Array[]) => Promise<SegmentReceipt>;

const PIECES_AT_ONCE = 4;
const PARALLEL_PROBES = 2;
const LIMIT_MS = 3_000;
const LIMIT_BYTES = 64 << 20;

/** For a few seconds at most; null when there is nothing to send. */
export async function measureWay(
  samples: readonly Uint8Array[],
  send: SendProbe,
  nowMs: () => number = () => performance.now(),
): Promise<WayMeasurement | null> {
  if (samples.length === 0) return null;
  // Connections, threads and TCP's window are there for the second one.
  await send(samples.slice(0, PIECES_AT_ONCE));
  const startMs = nowMs();
  const total = { contentBytes: 0, wireBytes: 0 };
  let index = 0;
  const isDone = () => nowMs() - startMs >= LIMIT_MS || total.contentBytes >= LIMIT_BYTES;
  const probe = async () => {
    do {
      const pieces = batch(samples, index);
      index += PIECES_AT_ONCE;
      const receipt = await send(pieces);
      total.contentBytes += sizeOf(pieces);
      total.wireBytes += receipt.wireBytes;
    } while (!isDone());
  };
  await Promise.all(Array.from({ length: PARALLEL_PROBES }, probe));
  return { ...total, durationMs: Math.max(1, nowMs() - startMs) };
}

/** Round and round. */
function batch(samples: readonly Uint8Array[], from: number): Uint8Array[] {
  const count = Math.min(PIECES_AT_ONCE, samples.length);
  return Array.from(
    { length: count },
    (_, at) => samples[(from + at) % samples.length] as Uint8Array,
  );
}

function sizeOf(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
}
